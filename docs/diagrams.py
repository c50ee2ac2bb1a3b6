"""The diagrams of `call.md` and `breaker.md`, in Mermaid, drawn from the tables the code is held against.

`python docs/diagrams.py` prints them, `--write` puts them into the pages, `--check` compares.
"""

from marked import Makers, main

from sansio_client import LocalProtocolError, breaker, call


def diagram(machine: str) -> str:
    """The diagram of `call` or `breaker` as a block of Mermaid."""
    lines = {"call": call_lines, "breaker": breaker_lines}[machine]()
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"])


def call_lines() -> list[str]:
    """One arrow for each pair of states, with all inputs that lead along it.

    Left out are the inputs that lead nowhere, and `cancel`, which leads from every state to the end.
    """
    names = call.STATE_NAMES
    lines = [f"[*] --> {names[call.IDLE]}"]
    for state, inputs in call.TRANSITIONS.items():
        arrows: dict[int, list[str]] = {}
        for name, targets in inputs.items():
            for target in targets:
                if target != state and name != "cancel":
                    arrows.setdefault(target, []).append(name)
        lines += [f"{names[state]} --> {names[target]} : {', '.join(by)}" for target, by in arrows.items()]
    return [*lines, f"{names[call.FINISHED]} --> [*]"]


def breaker_lines() -> list[str]:
    """What moves it by itself, and where `force` leads."""
    names = breaker.STATE_NAMES
    lines = [f"[*] --> {names[breaker.CLOSED]}"]
    for state, causes in breaker.TRANSITIONS.items():
        arrows: dict[int, list[str]] = {}
        for cause, target in causes.items():
            arrows.setdefault(target, []).append(cause)
        lines += [f"{names[state]} --> {names[target]} : {', '.join(by)}" for target, by in arrows.items()]
    lines.append('state "any state" as ANY')
    return [*lines, *(f"ANY --> {names[state]} : force" for state in range(len(names)) if can_be_forced(state))]


def can_be_forced(state: int) -> bool:
    """Whether `force` takes it, which only `force` itself knows."""
    machine = breaker.BreakerSettings().make(lambda: 0.0)
    try:
        machine.force(state, 0.0)
    except LocalProtocolError:
        return False
    return machine.state == state


MAKERS: Makers = {"diagram": diagram}

if __name__ == "__main__":
    main(MAKERS)
