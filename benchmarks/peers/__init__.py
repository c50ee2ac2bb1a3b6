"""The applications that are measured beside ours; all answer `GET /msg` with 200 and `{"message_id": <uuid4>}`."""
