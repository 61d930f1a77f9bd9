"""Events and blurred frames from sharp pictures."""
