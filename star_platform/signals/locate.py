"""Follows a location that pydantic reports through the types of a model, since it holds tags that no file has."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag

Steps = tuple[str | int, ...]
"""The way from the top of a file to a value: keys and list positions."""


@dataclass(frozen=True)
class Member:
    """One alternative of an annotation; `tag` is what pydantic puts into a location for it."""

    tag: str
    type: Any


def members_of(annotation: Any, tag: str | None = None) -> list[Member]:
    """The alternatives of `annotation`, None left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [item.tag for item in metadata if isinstance(item, Tag)]
        return members_of(inner, tags[0] if tags else tag)
    if origin in (Union, types.UnionType):
        return [member for option in get_args(annotation) for member in members_of(option)]
    if annotation is type(None):
        return []
    return [Member(tag or _own_tag(annotation), annotation)]


def _own_tag(annotation: Any) -> str:
    """The `kind` literal of a model in a discriminated union, else the name of the type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        if kind is not None and get_origin(kind.annotation) is Literal and len(get_args(kind.annotation)) == 1:
            return str(get_args(kind.annotation)[0])
    return str(getattr(annotation, "__name__", annotation))


def children_of(member: Member, step: str | int) -> list[Member]:
    """What may stand at `step` of `member`: a field of a model, a value of a mapping, an item of a list."""
    origin, arguments = get_origin(member.type), get_args(member.type)
    if isinstance(member.type, type) and origin is None and issubclass(member.type, BaseModel):
        info = member.type.model_fields.get(str(step))
        return members_of(info.annotation) if info is not None else []
    if origin is dict:
        return members_of(arguments[1])
    if origin in (tuple, list):
        return members_of(arguments[0])
    return []


def walk(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Steps, list[Member]]:
    """The location without the tags of unions, and the models that its last step may belong to."""
    steps: list[str | int] = []
    members, owners = members_of(model), members_of(model)
    for step in location:
        if step == "[key]":
            break
        chosen = [member for member in members if member.tag == step] if len(members) > 1 else []
        if chosen:
            members = chosen
            continue
        owners = members
        steps.append(step)
        members = [child for member in members for child in children_of(member, step)]
    return tuple(steps), owners
