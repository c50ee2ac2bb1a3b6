"""`python -m asgi_fault` is the same as `asgi-fault`."""

from asgi_fault.cli import main

if __name__ == "__main__":
    main()
