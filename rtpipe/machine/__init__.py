"""What this machine has: one fact per part, and the command that mends what is missing.

The functions that read the system take what they read as arguments, so that any machine can be described to them. Those
that import a package do it inside, and may die with it: ``rtpipe doctor`` calls each in a process of its own.
"""
