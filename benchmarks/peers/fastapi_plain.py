"""The same `/msg` in FastAPI, without middleware."""

import uuid
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query, Response

from benchmarks.peers.behaviour import Messages

app = FastAPI()
messages = Messages()


@app.get("/msg", response_model=None)  # None, as without a return type: nothing is validated on the way out
async def msg(
    response: Response,
    delay: Annotated[int, Query(ge=0, le=30_000)] = 0,
    x_request_id: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Answer `{"message_id": <uuid4>}`."""
    message_id = await messages.answer(x_request_id, delay)
    if message_id is None:
        raise HTTPException(500, "Induced server failure")
    response.headers["x-request-id"] = x_request_id or str(uuid.uuid4())
    response.headers["x-correlation-id"] = str(uuid.uuid4())
    return {"message_id": message_id}
