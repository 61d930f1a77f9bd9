"""One worker process: ``python -m rtpipe.pipeline.worker PLAN.json`` builds its part and runs the loop around it.

It ignores SIGINT and SIGTERM: the supervisor, which gets them too, says when to stop, so that nothing is cut short.
Exit codes: 0 done, 1 the world failed, 2 bad input, 3 a bug (the traceback is in the run's log).
"""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path

import msgspec
import zmq

from rtpipe import registry
from rtpipe.errors import InputError, RtpipeError
from rtpipe.pipeline.link import Link
from rtpipe.pipeline.messages import Failed, WorkerPlan
from rtpipe.stage import Stage

BUG = 3


def stages(plan: WorkerPlan) -> list[Stage]:
    """The stages of a worker that is no driver: filters, windows, engine, or one sink. Raises ``RtpipeError``."""
    if plan.role == "sink":
        module = registry.load("sinks", plan.part)
        sink: Stage = module.Sink(msgspec.convert(plan.settings, module.Settings))
        return [sink]
    from rtpipe import load
    from rtpipe.engine import EngineStage
    from rtpipe.window.settings import WindowSettings
    from rtpipe.window.stage import WindowStage

    module = registry.load("engines", plan.part)
    policy = msgspec.convert(plan.load or {}, load.LoadSettings)
    engine = load.shrunk(module.Engine(msgspec.convert(plan.settings, module.Settings)), policy.shrink)
    fallback = load.fallback(policy)
    settings = msgspec.convert(plan.window or {}, WindowSettings)
    chain: list[Stage] = [
        WindowStage(settings, engine.spec, plan.picture, load.wants_events(engine.spec, fallback)),
        EngineStage(engine, load.patience(policy, plan.live), fallback),
    ]
    if plan.filters:
        from rtpipe.window.filters.chain import make
        from rtpipe.window.filters.stage import FilterStage

        chain.insert(0, FilterStage(settings.of, make(plan.filters)))
    if settings.frames is not None:
        from rtpipe.window.join import JoinStage
        from rtpipe.window.join_settings import JoinSettings

        chain.insert(0, JoinStage(settings.of, settings.frames, settings.join or JoinSettings()))
    return chain


def run(plan: WorkerPlan) -> int:
    """Run the worker to its end; returns the exit code. What went wrong is told to the supervisor."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    link = Link(plan.control, plan.name, context)
    try:
        if plan.role == "driver":
            from rtpipe.pipeline.driver_worker import DriverWorker

            module = registry.load("drivers", plan.part)
            driver = module.Driver(msgspec.convert(plan.settings, module.Settings))
            DriverWorker(plan, driver, link, context).run()
        elif plan.role == "history":
            from rtpipe.history.settings import HistorySettings
            from rtpipe.history.stage import HistoryStage
            from rtpipe.pipeline.history_worker import HistoryWorker

            history = HistoryStage(msgspec.convert(plan.settings, HistorySettings), live=plan.live, life=plan.life)
            HistoryWorker(plan, history, link, context).run()
        else:
            from rtpipe.pipeline.stage_worker import StageWorker

            StageWorker(plan, stages(plan), link, context).run()
    except RtpipeError as error:
        link.send(Failed(plan.name, "input" if isinstance(error, InputError) else "world", str(error)))
        return error.exit_code
    except Exception as error:  # a bug: said by name, the traceback goes to the log
        traceback.print_exc()
        link.send(Failed(plan.name, "bug", f"{type(error).__name__}: {error}"))
        return BUG
    finally:
        link.close()
        context.destroy(linger=500)
    return 0


def main() -> None:
    """Entry point of the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerPlan)
    sys.exit(run(plan))


if __name__ == "__main__":
    main()
