"""The messages of the Open Inference Protocol's gRPC service (inference.GRPCInferenceService, version 2), made from a table of their fields."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "inference"
_Field = descriptor_pb2.FieldDescriptorProto

_FIELDS = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string[]",
    "ModelMetadataRequest": "name:string version:string",
    "TensorMetadata": "name:string datatype:string shape:int64[]",
    "ModelMetadataResponse": "name:string versions:string[] platform:string inputs:TensorMetadata[] outputs:TensorMetadata[]",
    "InferParameter": "bool_param:bool int64_param:int64 string_param:string double_param:double uint64_param:uint64",
    "InferTensorContents": "bool_contents:bool[] int_contents:int32[] int64_contents:int64[] uint_contents:uint32[]"
    " uint64_contents:uint64[] fp32_contents:float[] fp64_contents:double[] bytes_contents:bytes[]",
    "InferTensor": "name:string datatype:string shape:int64[] parameters:InferParameter{} contents:InferTensorContents",
    "InferRequestedOutputTensor": "name:string parameters:InferParameter{}",
    "ModelInferRequest": "model_name:string model_version:string id:string parameters:InferParameter{}"
    " inputs:InferTensor[] outputs:InferRequestedOutputTensor[] raw_input_contents:bytes[]",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters:InferParameter{}"
    " outputs:InferTensor[] raw_output_contents:bytes[]",
}
"""Fields in the order of their numbers, from 1 without a gap. A type with [] is repeated, with {} a map from strings. What the protocol nests stands
beside the others, and what it calls InferInputTensor and InferOutputTensor is one: names of messages do not go over the wire."""
_ONE_OF = {"InferParameter": "parameter_choice"}


class Messages:
    """Message classes by name. A pool of their own: another package's `inference` messages may live in the same process."""

    def __init__(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(_file())
        self._classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}

    def __getitem__(self, name: str) -> type:
        return self._classes[name]


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference_v2.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name=_ONE_OF[name])
        for number, field in enumerate(fields.split(), start=1):
            _add(message, number, *field.split(":"))
    return file


def _add(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str) -> None:
    many = kind.endswith(("[]", "{}"))
    field = message.field.add(name=name, number=number, label=_Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL)
    if message.oneof_decl:
        field.oneof_index = 0
    if kind.endswith("{}"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add(entry, 1, "key", "string")
        _add(entry, 2, "value", kind[:-2])
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
    else:
        _set_type(field, kind.removesuffix("[]"))


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _FIELDS:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
