"""Print the images per second of a network in PyTorch, for comparison. Needs nothing but PyTorch.

    python torch_peer.py GRAPH.json train|infer float32|bfloat16 BATCH_SIZE SECONDS

GRAPH.json is the network as `throughput.graph` describes it. The loop follows PyTorch's recommendations: channels_last,
autocast for bfloat16, SGD with Nesterov momentum; the images are in memory already. Prints the median over the steps.
"""

import json
import math
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

IMAGE = "image"  # the name of the input
ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "silu": nn.SiLU, "sigmoid": nn.Sigmoid}


class Network(nn.Module):
    """The layers of the graph, in its order."""

    def __init__(self, graph):
        super().__init__()
        self.graph = [(node["name"].replace(".", "_"), node["inputs"], node["name"]) for node in graph]
        self.layers = nn.ModuleDict({name: _layer(node) for (name, _, _), node in zip(self.graph, graph, strict=True)})
        read = [name for node in graph for name in node["inputs"]]
        for node, (key, inputs, _) in zip(graph, self.graph, strict=True):
            activation = node.get("activation", "relu")
            if node["kind"] in ("Activation", "ReLU") and read.count(inputs[0]) == 1 and activation != "gelu":
                self.layers[key].inplace = True
        self.last_reader = {name: place for place, (_, inputs, _) in enumerate(self.graph) for name in inputs}

    def forward(self, image):  # noqa: D102  named by PyTorch
        values = {IMAGE: image}
        for place, (key, inputs, name) in enumerate(self.graph):
            layer = self.layers[key]
            given = [values[each] for each in inputs]
            values[name] = layer(*given) if not isinstance(layer, _Join) else layer(given)
            for each in inputs:
                if self.last_reader[each] == place:
                    del values[each]
        return values[name]


class _Join(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, values):
        if self.how == "Concatenate":
            return torch.cat(values, 1)
        result = values[0]
        for value in values[1:]:
            result = result + value if self.how == "Add" else result * value
        return result


class _Pad(nn.Module):
    def __init__(self, amounts):
        super().__init__()
        self.amounts = amounts

    def forward(self, x):
        return functional.pad(x, self.amounts)


class _Rescale(nn.Module):
    def __init__(self, node):
        super().__init__()
        shape = (1, -1, 1, 1) if node["size"] else (1, -1)
        for name in ("scale", "offset"):
            self.register_buffer(name, torch.tensor(node[name], dtype=torch.float32).reshape(shape))

    def forward(self, x):
        return x * self.scale + self.offset


def _layer(node):
    kind = node["kind"]
    if kind in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"):
        return nn.Sequential(*_convolution(node), *_activation(node))
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        pad, inside = _padding(node, node["pool_size"])
        if kind == "MaxPooling2D":
            return nn.Sequential(*pad, nn.MaxPool2d(node["pool_size"], node["strides"], inside))
        return nn.Sequential(*pad, nn.AvgPool2d(node["pool_size"], node["strides"], inside, count_include_pad=False))
    if kind == "BatchNormalization":
        flat = not node["size"]
        options = {"eps": node["epsilon"], "momentum": 1 - node["momentum"]}
        norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(node["channels"], **options)
        norm.weight.requires_grad = bool(node["scale"])
        return norm
    if kind in ("Add", "Concatenate", "Multiply"):
        return _Join(kind)
    if kind in ("ZeroPadding2D", "Cropping2D"):
        (top, bottom), (left, right) = node["padding"] if kind == "ZeroPadding2D" else node["cropping"]
        sign = 1 if kind == "ZeroPadding2D" else -1
        return _Pad([sign * left, sign * right, sign * top, sign * bottom])
    if kind in ("Activation", "ReLU"):
        return _activation({"activation": "relu", **node})[0]
    simple = {
        "GlobalAveragePooling2D": lambda: nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Identity() if node["keepdims"] else nn.Flatten()
        ),
        "Flatten": nn.Flatten,
        "Dropout": lambda: nn.Dropout(node["rate"]),
        "Rescaling": lambda: _Rescale(node),
    }
    return simple[kind]()


def _convolution(node):
    channels, bias = node["channels"], node.get("use_bias", False)
    if node["kind"] == "Dense":
        return [nn.Linear(channels, node["units"], bias=bias)]
    size, strides = node["kernel_size"], node["strides"]
    pad, inside = _padding(node, size)
    if node["kind"] == "Conv2D":
        groups = node.get("groups", 1)
        return [*pad, nn.Conv2d(channels, node["filters"], size, strides, inside, groups=groups, bias=bias)]
    own_bias = bias and node["kind"] == "DepthwiseConv2D"
    depthwise = nn.Conv2d(channels, channels, size, strides, inside, groups=channels, bias=own_bias)
    if node["kind"] == "DepthwiseConv2D":
        return [*pad, depthwise]
    return [*pad, depthwise, nn.Conv2d(channels, node["filters"], 1, bias=bias)]


def _padding(node, size):
    """Return Keras's `same` padding: layers for it if it is uneven, and otherwise the argument of the layer."""
    if node["padding"] == "valid":
        return [], 0
    total = [
        max((math.ceil(side / stride) - 1) * stride + window - side, 0)
        for side, stride, window in zip(node["size"], node["strides"], size, strict=True)
    ]
    if any(each % 2 for each in total):
        (top, left) = (each // 2 for each in total)
        return [_Pad([left, total[1] - left, top, total[0] - top])], 0
    return [], [each // 2 for each in total]


def _activation(node):
    return [ACTIVATIONS[node["activation"]]()] if node.get("activation", "linear") != "linear" else []


def main():
    """Measure by the arguments of the command line."""
    path, mode, dtype, batch_size, seconds = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
    with open(path, encoding="utf-8") as file:
        graph = json.load(file)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Network(graph).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.001, 0.9, nesterov=True)
    images = torch.randint(0, 256, (batch_size, 3, 32, 32), device=device).float()
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,), device=device)

    def train():
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def infer():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            model(images)

    model.train(mode == "train")
    run = {"train": train, "infer": infer}[mode]

    def step():
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    step()
    count = max(2, round(seconds / step()))
    print(batch_size / statistics.median(step() for _ in range(count)))


if __name__ == "__main__":
    main()
