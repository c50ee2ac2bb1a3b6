"""A world in virtual time for the core: callers, peers and an event heap, all decided by one seed.

Hours of traffic take seconds, nothing waits, and the same seed gives the same trace, byte for byte, on every Python:

    from sansio_client.simulator import Arrivals, Exponential, Phase, Server, World

    world = World(seed=7, peers={"api": Server(Exponential(0.05), phases=[Phase(10.0, 40.0, failure=FAILURE)])})
    callers = Arrivals(world, "api", per_second=100.0, until=60.0)
    world.run()
    print(callers.tally)

`recording` writes down what a core is told in production and replays it to the same decisions.
"""

from sansio_client.simulator.clients import Arrivals, Callers, Tally
from sansio_client.simulator.peers import Exponential, Fixed, Law, Mixed, Pareto, Peer, Phase, Server, Uniform
from sansio_client.simulator.recording import RecordingCore, ReplayDiverged, replay
from sansio_client.simulator.world import World

__all__ = [
    "Arrivals",
    "Callers",
    "Exponential",
    "Fixed",
    "Law",
    "Mixed",
    "Pareto",
    "Peer",
    "Phase",
    "RecordingCore",
    "ReplayDiverged",
    "Server",
    "Tally",
    "Uniform",
    "World",
    "replay",
]
