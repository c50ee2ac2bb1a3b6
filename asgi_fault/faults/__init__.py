"""What goes wrong on command, and when."""
