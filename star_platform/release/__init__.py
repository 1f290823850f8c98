"""A release from plan to activation."""

from star_platform.release.effects import Activation, activate, finish
from star_platform.release.model import LEASE, PUBLISHED, ReleaseRequest, Workshop
from star_platform.release.run import resume, start

__all__ = ["LEASE", "PUBLISHED", "Activation", "ReleaseRequest", "Workshop", "activate", "finish", "resume", "start"]
