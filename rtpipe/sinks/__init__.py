"""Where packets end: a display, a recording, a video."""
