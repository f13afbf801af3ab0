"""What supervisor and worker say to each other: Ready; Load, answered by Loaded; then any number of Infer, each answered by Answer. Instead of an
answer there may be Failed. The supervisor ends it by closing the channel."""

import msgspec

from edge_agent.inference.layout import Head
from edge_agent.inference.plan import GraphSignature, Plan


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Load(_Struct, tag="load"):
    """The payload is the model file."""

    plan: Plan


class Infer(_Struct, tag="infer"):
    """The payload is the tensors'."""

    tensors: list[Head]


class Ready(_Struct, tag="ready"):
    """The worker is sandboxed and waits. `walls` are those of sandbox.py that this kernel granted."""

    walls: list[str]


class Loaded(_Struct, tag="loaded"):
    signature: GraphSignature


class Answer(_Struct, tag="answer"):
    """The payload is the tensors'."""

    tensors: list[Head]


class Failed(_Struct, tag="failed"):
    """`code` is bundle, memory, wrong-answer or no-variant."""

    code: str
    message: str


Request = Load | Infer
Reply = Ready | Loaded | Answer | Failed

requests = msgspec.msgpack.Decoder(Request)
replies = msgspec.msgpack.Decoder(Reply)
