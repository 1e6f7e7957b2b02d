"""Serve runs with Ray Serve: replicas on the machines of a Ray cluster, each with the models in its memory.

    python experiments/serving/ray_serve.py ner=3f9c2a --replicas 4
    python experiments/serving/ray_serve.py ner=3f9c2a --host 0.0.0.0 --keys keys.yaml --behind-proxy

Machines need the same packages, the folders of the runs and of the cache under the same paths, and the file of keys.
`ray start --head` on the first machine and `ray start --address=...` on the others make the cluster; without one, Ray
starts on this machine alone. Ray sends each request to the replica with the fewest under way, starts replicas that have
died again, and adds some under load: `--most`.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from typing import Any

from peftlab.serving.access.listening import check
from peftlab.serving.settings import Settings, place_of


def application(settings: Settings) -> Any:
    """Return the application of a replica, in its process."""
    from peftlab.serving.access.guard import Guard
    from peftlab.serving.app import create
    from peftlab.serving.events import Observer
    from peftlab.serving.models.models import Models

    models = Models(settings.runs, allow=settings.allow, mask=settings.mask)
    return create(settings, models, Observer(), Guard(settings))  # Ray counts and times requests itself


def deploy(settings: Settings, replicas: int, most: int, cpus: float) -> None:
    """Start Ray Serve, or join it, and return when all replicas answer.

    Args:
        settings: of each replica.
        replicas: their number, at least.
        most: their number under load.
        cpus: cores of each; its threads as well.
    """
    from ray import serve

    def replica() -> Any:  # Ray tells by its kind that this builds the application
        return application(settings)

    check(settings)  # Ray's proxies listen at this address
    serve.start(http_options={"host": settings.host, "port": settings.port, "location": "EveryNode"})
    deployment = serve.deployment(
        serve.ingress(replica)(),
        name="peftlab",
        autoscaling_config={"min_replicas": replicas, "max_replicas": most, "target_ongoing_requests": 8},
        max_ongoing_requests=settings.queue,
        ray_actor_options={"num_cpus": cpus, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(max(1, int(cpus)))}}},
        graceful_shutdown_timeout_s=settings.drain_s,
    )
    serve.run(deployment.bind(), name="peftlab", route_prefix="/")


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=_resolved)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--behind-proxy", action="store_true")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--most", type=int, help="of replicas; by default their number")
    parser.add_argument("--cpus", type=float, default=1, help="of each replica")
    options = parser.parse_args()
    settings = Settings(
        runs=tuple(options.runs),
        host=options.host,
        port=options.port,
        keys=options.keys,
        behind_proxy=options.behind_proxy,
    )
    deploy(settings, options.replicas, options.most or options.replicas, options.cpus)
    print(f"serving at http://{options.host}:{options.port}", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    from ray import serve

    serve.shutdown()


def _resolved(run: str) -> str:
    """Return a run by its absolute folder: replicas run elsewhere."""
    from peftlab.runs.find import find

    place = place_of(run)
    return f"{run.removesuffix(place)}{find(place).resolve()}"


if __name__ == "__main__":
    main()
