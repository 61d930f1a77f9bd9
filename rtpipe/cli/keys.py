"""``rtpipe keys``: the keys by which machines know one another."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="CURVE keys: what leaves a machine is encrypted, and only machines that are known may connect.\n\n"
    "On both machines `rtpipe keys make`; then each learns the other's public key: `rtpipe keys add NAME 'KEY'`.",
    invoke_without_command=True,
)


@app.callback()
def keys(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")] = False,
) -> None:
    """This machine's public key, and the machines that are known.

    Examples:

        rtpipe keys

        rtpipe keys make

        rtpipe keys add jetson 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7'
    """
    if context.invoked_subcommand is not None:
        return
    from rtpipe.errors import InputError
    from rtpipe.sockets import keys as store

    own: str | None = None
    problem = ""
    try:
        own = store.own().public.decode()
    except InputError as error:
        problem = str(error)
    known = store.known()
    if json:
        import msgspec

        facts = {
            "directory": str(store.directory()),
            "own": own,
            "problem": problem,
            "known": {each.name: each.public.decode() for each in known},
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return
    typer.echo(f"this machine   {own or problem}")
    for each in known:
        typer.echo(f"{each.name:<14} {each.public.decode()}")
    if not known:
        typer.echo("no other machine is known: rtpipe keys add NAME 'KEY', with the key that it prints")
    typer.echo(f"kept in {store.directory()}")


@app.command()
def make(
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make a new pair: every machine that knew the old key must be told.")
    ] = False,
) -> None:
    """Make this machine's own pair of keys, if it has none, and print the public half.

    Examples:

        rtpipe keys make
    """
    from rtpipe.sockets import keys as store

    own, made = store.make(overwrite=overwrite)
    typer.echo("made:" if made else "this machine has its keys already:")
    typer.echo(own.public.decode())
    typer.echo("Tell it to the other machine, there: rtpipe keys add NAME 'KEY'. The secret half stays here.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the machine here.")],
    key: Annotated[str, typer.Argument(help="Its public key (quoted), or a file that holds it.")],
) -> None:
    """Know another machine by its public key: it may connect, and it is believed.

    Examples:

        rtpipe keys add laptop 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7'

        rtpipe keys add laptop laptop.key
    """
    from rtpipe.sockets import keys as store

    typer.echo(f"{store.add(name, key).name} is known; pipelines that start from now on admit it")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="The machine's name here.")]) -> None:
    """Forget a machine: pipelines that start from now on do not admit it.

    Examples:

        rtpipe keys remove laptop
    """
    from rtpipe.sockets import keys as store

    store.remove(name)
    typer.echo(f"{name} is forgotten; a pipeline that runs admits it until it ends")
