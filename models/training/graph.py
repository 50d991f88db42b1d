"""TensorFlow function -> ONNX with names that are asked for, whatever the conversion calls them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from models.training.quiet import silenced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OPSET = 17


def converted(
    function: Callable[..., Any], inputs: Mapping[str, tuple[int | None, ...]], outputs: Sequence[str]
) -> Any:
    """The ONNX model of a function of float32 tensors, given by name with their shapes (None for any length).

    The function gives as many tensors as there are names of outputs, as a tuple if there are several.
    """
    import onnx

    with silenced():
        import tf2onnx

    signature = [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()]

    @tf.function(input_signature=signature)
    def graph(*tensors: Any) -> Any:
        found = function(*tensors)
        given = found if isinstance(found, tuple) else (found,)
        return tuple(tf.identity(each, name=name) for each, name in zip(given, outputs, strict=True))

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with silenced():
        model, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    _rename(model, [*inputs, *outputs])
    onnx.checker.check_model(model)
    return model


def joined(first: Any, second: Any) -> Any:
    """One model of two, in which outputs of the first are the inputs of the second with the same names."""
    from onnx.compose import merge_models

    inputs = {node.name for node in second.graph.input}
    shared = [(node.name, node.name) for node in first.graph.output if node.name in inputs]
    wanted = [node.name for node in first.graph.input]
    kept = [node.name for node in first.graph.output if node.name not in inputs]
    second.ir_version = first.ir_version
    for model in (first, second):
        _drop_unused_operators(model)
    model = merge_models(first, second, io_map=shared, prefix1="first_", prefix2="second_")
    _rename(model, [*wanted, *kept, *(node.name for node in second.graph.output)])
    return model


def add_metadata(model: Any, told: Mapping[str, str]) -> None:
    """What the file says of itself."""
    for name, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value


def _drop_unused_operators(model: Any) -> None:
    """Leave one import of each set of operators that a node is from; models that import others cannot be merged."""
    used = {node.domain for node in model.graph.node}
    versions = {each.domain: each.version for each in model.opset_import if each.domain in used}
    del model.opset_import[:]
    for domain, version in versions.items():
        entry = model.opset_import.add()
        entry.domain, entry.version = domain, version


def _rename(model: Any, wanted: Sequence[str]) -> None:
    """Give inputs and outputs, in order, their names."""
    names = [node.name for node in (*model.graph.input, *model.graph.output)]
    new = dict(zip(names, wanted, strict=True))
    for node in (*model.graph.input, *model.graph.output):
        node.name = new[node.name]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = new.get(name, name)
        for place, name in enumerate(node.output):
            node.output[place] = new.get(name, name)
