"""The messages that both protocols answer with, over gRPC as they are and over REST as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfmi.serving.versions import VersionReport

SIGNATURE_FIELD = "signature_def"


def status_message(statuses: Iterable[VersionReport]) -> get_model_status_pb2.GetModelStatusResponse:
    """The statuses of a model's versions."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add()
        entry.version = status.version
        entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state.value)
        entry.status.error_code = int(status.code)
        entry.status.error_message = status.message
    return response


def metadata_message(
    name: str, version: int, signatures: Mapping[str, meta_graph_pb2.SignatureDef]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of one version of a model."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = name
    response.model_spec.version.value = version
    response.metadata[SIGNATURE_FIELD].Pack(get_model_metadata_pb2.SignatureDefMap(signature_def=signatures))
    return response


def metadata_json(name: str, version: int, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> dict[str, Any]:
    """``metadata_message`` as TensorFlow Serving writes it over REST: the signatures unpacked, the version a plain string."""
    signature_map = get_model_metadata_pb2.SignatureDefMap(signature_def=signatures)
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {
            SIGNATURE_FIELD: json_format.MessageToDict(
                signature_map, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        },
    }


def status_json(statuses: Iterable[VersionReport]) -> dict[str, Any]:
    """``status_message`` as JSON."""
    return json_format.MessageToDict(status_message(statuses), always_print_fields_with_no_presence=True)
