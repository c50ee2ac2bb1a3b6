"""What the core decided and why, as tuples in a list: nothing is called back, so no listener can get in its way.

Hand `Core(events=[])` a list and read and empty it after each input. A happy path through `Target.enter` and `leave`
writes nothing. Each event is `(now, name, call_id, a, b)`; `call_id` is 0 where no call is meant.

| name | a | b | |
|---|---|---|---|
| `start` | key of the target | deadline | a call began |
| `send` | attempt's number in the call, from 1 | attempt's deadline | |
| `hedge` | attempt's number | attempts in flight with it | comes before the `send` of a hedge |
| `ended` | attempt's number | verdict | an attempt's one report was taken |
| `retry` | number of the attempt to come | seconds until it | the back-off begins |
| `queue` | calls that wait, this one included | seconds, or until its deadline | for a slot |
| `grant` | slots in use | | a waiting call got a slot |
| `pace` | | seconds until it may send | the rate limiter spoke |
| `park` | state of the breaker | instant of the next look | a retry waits for the breaker |
| `timeout` | attempt's number | seconds it had | its own time was over, or the call's |
| `breaker` | key of the target | state it moved to | |
| `limit` | key of the target | slots | the adaptive limit moved |
| `budget` | level | cost, 0 when refused | a retry or hedge asked for its price |
| `finish` | attempts sent | reason | the call is over |
"""

Event = tuple[float, str, int, object, object]

START, SEND, HEDGE, ENDED, RETRY, QUEUE, GRANT = "start", "send", "hedge", "ended", "retry", "queue", "grant"
PACE, PARK, TIMEOUT, BREAKER, LIMIT, BUDGET, FINISH = "pace", "park", "timeout", "breaker", "limit", "budget", "finish"
NAMES = (START, SEND, HEDGE, ENDED, RETRY, QUEUE, GRANT, PACE, PARK, TIMEOUT, BREAKER, LIMIT, BUDGET, FINISH)
