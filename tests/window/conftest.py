"""Kernels are compiled inside the first example: no deadline for it, and none for making the input."""

from hypothesis import HealthCheck, settings

settings.register_profile("kernels", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kernels")
