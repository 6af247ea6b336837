"""Messages to the gRPC server, valid and hostile."""

from typing import Any

from service.protocols.oip.rpc.messages import pb


def question(*texts: str, model: str = "news-topics", name: str = "text") -> Any:
    message = pb.ModelInferRequest(model_name=model, id="7")
    tensor = message.inputs.add(name=name, datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return message


def tensor(**more: Any) -> Any:
    message = question("a")
    one = message.inputs[0]
    for name, value in more.items():
        if name == "shape":
            one.shape[:] = value
        else:
            setattr(one, name, value)
    return message


def hostile() -> list[Any]:
    twice = question("a")
    twice.inputs.append(twice.inputs[0])
    mixed = question("a")
    mixed.raw_input_contents.extend([b"a", b"b"])
    lying = question()
    lying.inputs[0].shape[:] = [1]
    lying.raw_input_contents.append(b"\xff\xff\xff\xffa")
    floats = question("a")
    floats.inputs[0].contents.fp32_contents.append(1)
    bad_version = question("a")
    bad_version.model_version = "latest"
    timeout = question("a")
    timeout.parameters["timeout"].int64_param = -1
    priority = question("a")
    priority.parameters["priority"].string_param = "high"
    classes = question("a")
    classes.outputs.add(name="score").parameters["classification"].string_param = "x"
    many = question("a")
    many.outputs.extend([pb.ModelInferRequest.InferRequestedOutputTensor(name="score")] * 2000)
    absent_output = question("a")
    absent_output.outputs.add(name="absent")
    utf8 = question()
    utf8.inputs[0].shape[:] = [1]
    utf8.raw_input_contents.append(b"\1\0\0\0\xff")
    return [
        pb.ModelInferRequest(model_name="news-topics"),
        twice,
        mixed,
        lying,
        floats,
        bad_version,
        timeout,
        priority,
        classes,
        many,
        absent_output,
        utf8,
        tensor(shape=[-1]),
        tensor(shape=[2]),
        tensor(shape=[0]),
        tensor(shape=[2**62, 2**62]),
        tensor(shape=[1] * 40),
        tensor(shape=[1, 2]),
        tensor(datatype="FP32"),
        tensor(datatype="FP16"),
        tensor(datatype=""),
        tensor(datatype="x" * 10_000),
        tensor(name="x" * 10_000),
        question(*["a"] * 9),
    ]
