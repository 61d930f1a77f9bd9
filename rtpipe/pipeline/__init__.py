"""What runs it all: configuration, the worker loop, the supervisor, control, metrics."""
