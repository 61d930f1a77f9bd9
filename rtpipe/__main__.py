"""``python -m rtpipe`` is ``rtpipe``."""

from rtpipe.cli import main

main()
