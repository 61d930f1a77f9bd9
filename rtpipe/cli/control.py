"""``rtpipe control``: steer a running pipeline through its control socket."""

from __future__ import annotations

from typing import Annotated

import typer


def control(
    command: Annotated[
        list[str],
        typer.Argument(
            help="pause, resume, step, seek S, speed X, rewind S, live, save S, record on|off, set …, mark …"
        ),
    ],
    run: Annotated[int | None, typer.Option(help="The process number of the run, if several are running.")] = None,
) -> None:
    """Steer a running pipeline.

    Commands: pause, resume, step, seek SECONDS, seek +S, seek -S, speed FACTOR, record on|off, mark TEXT, status, stop;
    and in a pipeline with a history: rewind SECONDS plays again from that long ago, through the engine, up to now, live
    goes back to the present at once, save SECONDS writes the last seconds to a file.

    While rewound, pause, resume, step, speed, seek +S and seek -S steer what is played again; otherwise they are for
    the source: a replay obeys them all, a live camera what it can. No command but record touches a recording.

    set SETTING VALUE changes a live camera's setting: the answer says whether its hardware or this computer does it.
    off takes a setting back; with several cameras it begins with the source's name.

    Examples:

        rtpipe control pause

        rtpipe control set frames.exposure_us 8000

        rtpipe control set left.roi 10,20,100,80

        rtpipe control seek 1.5

        rtpipe control seek -1

        rtpipe control rewind 3

        rtpipe control save 10

        rtpipe control status
    """
    from rtpipe.errors import InputError
    from rtpipe.pipeline import rundir
    from rtpipe.pipeline.control import ask
    from rtpipe.pipeline.messages import check_command

    answer = ask(rundir.find(run), check_command(" ".join(command)))
    if not answer.ok:
        raise InputError(answer.text)
    typer.echo(answer.text)
