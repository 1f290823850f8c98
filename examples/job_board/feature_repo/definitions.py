"""Feast's objects, derived from the registry of the project: only `star-platform` changes them.

A plain `feast apply` finds nothing to do. Where Feast's registry and ours disagree, loading this file fails and says
how to put that right.
"""

from pathlib import Path

from star_platform.project import Project

for _number, _object in enumerate(Project.open(Path(__file__).resolve().parent).feast_objects()):
    globals()[f"object_{_number:04d}"] = _object
