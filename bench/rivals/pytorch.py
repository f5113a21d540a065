"""The process of PyTorch: the tasks of bench/tasks.ts, by the messages of bench/system.ts.

`--compile` compiles whole models by torch.compile, `--timm` takes them from timm; either takes nothing but models.

Requests are lines of JSON on standard input, replies on file descriptor 3. The models are timm's vision transformers
(its Swin is in pytorch_swin.py, its convnets are in pytorch_convnet.py) in plain torch: fused qkv, scaled_dot_product_attention, exact GELU, layer norms with eps 1e-6, AdamW as it comes.
pytorch_data.py, its loader, is imported when it is asked for: Pillow need not be installed.
"""

import json
import os
import resource
import statistics
import sys
import time
from importlib import metadata

import torch
import torch.nn.functional as F
from torch import nn

import pytorch_timm
from pytorch_convnet import CONVNETS
from pytorch_swin import Swin, relative_index, shift_mask, window_attention

COMPILE = "--compile" in sys.argv
TIMM = "--timm" in sys.argv


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        return self.proj(packed_attention(self.qkv(x), self.heads))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, image, patch, dim, depth, heads, classes):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])


def packed_attention(qkv, heads):
    B, N, features = qkv.shape
    q, k, v = qkv.reshape(B, N, 3, heads, features // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, features // 3)


def dispatch(task):
    calls = range(task["calls"])
    x, y = torch.ones(1), torch.ones(1)
    m = torch.ones(8, 8)
    row = torch.ones(1, 8)
    weight, bias = torch.ones(8, 8), torch.ones(8)
    one = torch.ones(1)

    def repeat(op):
        def run():
            for _ in calls:
                op()

        return run

    def add_backward():
        h = xg
        for _ in calls:
            h = h + y
        torch.autograd.grad(h, xg, one)

    def linear_backward():
        h = rowg
        for _ in calls:
            h = F.linear(h, weightg, biasg)
        torch.autograd.grad(h, [rowg, weightg, biasg], row)

    xg = torch.ones(1, requires_grad=True)
    rowg = torch.ones(1, 8, requires_grad=True)
    weightg = (torch.ones(8, 8) / 8).requires_grad_()
    biasg = torch.zeros(8, requires_grad=True)
    return {
        "add": repeat(lambda: x + y),
        "addBackward": add_backward,
        "linear": repeat(lambda: F.linear(row, weight, bias)),
        "linearBackward": linear_backward,
        "reshape": repeat(lambda: m.reshape(4, 16)),
        "permute": repeat(lambda: m.permute(1, 0)),
        "slice": repeat(lambda: m[2:6]),
        "item": repeat(lambda: (x + y).item()),
    }[task["op"]]


def linear(task):
    rows, inputs, outputs = task["rows"], task["inputs"], task["outputs"]
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    dy = torch.randn(rows, outputs)
    return {
        "forward": lambda: F.linear(x, weight, bias),
        "forwardGelu": lambda: F.gelu(F.linear(x, weight, bias)),
        "input": lambda: dy @ weight,
        "weight": lambda: dy.T @ x,
    }[task["pass"]]


def differentiable(op, inputs, backward):
    """One forward pass, or one with its gradients."""
    if not backward:
        return lambda: op(*inputs)
    inputs = [x.requires_grad_() for x in inputs]
    dy = torch.randn_like(op(*inputs))
    return lambda: torch.autograd.grad(op(*inputs), inputs, dy)


def row_wise(task):
    x = torch.randn(task["rows"], task["features"])
    C = task["features"]
    if task["kind"] == "layerNorm":
        inputs = [x, torch.ones(C), torch.zeros(C)]
        return differentiable(lambda x, g, b: F.layer_norm(x, (C,), g, b, 1e-6), inputs, task["backward"])
    op = F.gelu if task["kind"] == "gelu" else lambda x: F.softmax(x, dim=-1)
    return differentiable(op, [x], task["backward"])


def attention(task):
    features = 3 * task["heads"] * task["headDim"]
    qkv = torch.randn(task["batch"], task["tokens"], features)
    return differentiable(lambda qkv: packed_attention(qkv, task["heads"]), [qkv], task["backward"])


def windowed_attention(task):
    side, window, shift, heads = task["map"], task["window"], task["shift"], task["heads"]
    qkv = torch.randn(task["batch"], side, side, 3 * heads * task["headDim"])
    table = torch.randn((2 * window - 1) ** 2, heads)
    index = relative_index(window)
    mask = shift_mask(side, side, window, shift) if shift > 0 else None
    op = lambda qkv, table: window_attention(qkv, table, index, mask, window, shift)
    return differentiable(op, [qkv, table], task["backward"])


def cross_entropy(task):
    logits = torch.randn(task["rows"], task["classes"], requires_grad=True)
    labels = torch.arange(task["rows"]) % task["classes"]
    return lambda: torch.autograd.grad(F.cross_entropy(logits, labels), logits)


def adamw(task):
    params = list(Vit(**task["vit"]).parameters())
    for p in params:
        p.grad = torch.randn_like(p)
    return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.05).step


def vit(task):
    model = pytorch_timm.vit if TIMM else Vit
    return model_task(model(**task["vit"]), task["vit"], task)


def swin(task):
    model = pytorch_timm.swin if TIMM else Swin
    return model_task(model(**task["swin"], drop_path=task.get("dropPath", 0.0)), task["swin"], task)


def convnet(task):
    name, classes = task["model"], task["classes"]
    return model_task(pytorch_timm.convnet(name, classes) if TIMM else CONVNETS[name](classes), task, task)


def model_task(model, config, task):
    if COMPILE:
        model = torch.compile(model)
    batch = task["batch"]
    images = torch.randn(batch, 3, config["image"], config["image"])
    labels = torch.arange(batch) % config["classes"]
    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=task.get("precision") == "bfloat16")
    if not task["train"]:
        model.eval()

        def infer():
            with torch.inference_mode(), autocast:
                return model(images).float().cpu().numpy()

        return infer

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)

    def step():
        optimizer.zero_grad()
        with autocast:
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gemm(task):
    a, b = torch.randn(task["size"], task["size"]), torch.randn(task["size"], task["size"])
    return lambda: a @ b


def copy(task):
    x = torch.randn(task["elements"])
    y = torch.empty_like(x)
    return lambda: y.copy_(x)


TASKS = {
    "dispatch": dispatch,
    "gemm": gemm,
    "copy": copy,
    "linear": linear,
    "layerNorm": row_wise,
    "gelu": row_wise,
    "softmax": row_wise,
    "attention": attention,
    "crossEntropy": cross_entropy,
    "adamw": adamw,
    "vit": vit,
    "swin": swin,
    "convnet": convnet,
    "windowAttention": windowed_attention,
}


MODELS = ("vit", "swin", "convnet")
GPU_CALLS = 32  # kernels enqueued before one waits, as in bench/tenon.ts


def prepare(task, device):
    """What one run does, and how many times it does the task."""
    if task["kind"] == "load":
        import pytorch_data

        return pytorch_data.load(task, torch.get_num_threads())
    if task["kind"] in MODELS:
        return TASKS[task["kind"]](task), 1  # waits for its result
    if task.get("precision") == "bfloat16":
        torch.set_default_dtype(torch.bfloat16)
    op = TASKS[task["kind"]](task)
    torch.set_default_dtype(torch.float32)
    if device == "cpu":
        return op, 1

    def run():
        for _ in range(GPU_CALLS):
            op()
        torch.cuda.synchronize()

    return run, GPU_CALLS


def seconds_of(run, calls):
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - started


def measure(run, minTime, maxTime, minSamples):
    """The rules of benchmark.js: samples of at least minTime until maxTime has passed; the median of one call."""
    calls = 1
    while (elapsed := seconds_of(run, calls)) < minTime:
        calls += max(1, int((minTime - elapsed) / elapsed * calls) + 1)
    samples = [elapsed / calls]
    spent = elapsed
    while len(samples) < minSamples or spent <= maxTime:
        elapsed = seconds_of(run, calls)
        spent += elapsed
        samples.append(elapsed / calls)
    return statistics.median(samples)


def profile(task, steps=3):
    run, _ = prepare(task, "cpu")
    for _ in range(2):
        run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            run()
    rows = [
        {"op": e.key, "calls": e.count / steps, "milliseconds": e.self_cpu_time_total / 1000 / steps}
        for e in profiler.key_averages()
    ]
    return sorted(rows, key=lambda row: -row["milliseconds"])


def pillow_version():
    try:
        return {"pillow": metadata.version("pillow")}
    except metadata.PackageNotFoundError:
        return {}


def peak_bytes():
    if not sys.platform.startswith("linux"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    # getrusage's maximum survives exec and so may be the parent's; VmHWM belongs to this program alone.
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


class Server:
    run = None
    portion = 1
    device = "cpu"

    def load(self, request):
        torch.set_num_threads(request["threads"])
        self.device = request["device"]
        if self.device != "cpu":  # a default device is a mode that every call goes through: 1 us of each
            torch.set_default_device(self.device)
        torch.zeros(1).sum().item()  # fails here where there is no such device
        versions = {"torch": torch.__version__, **pillow_version(), **({"timm": pytorch_timm.version()} if TIMM else {})}
        return {"versions": versions, "threads": torch.get_num_threads()}

    def prepare(self, request):
        task = request["task"]
        if (COMPILE or TIMM) and task["kind"] not in MODELS:
            return {"unsupported": "it takes models alone"}
        if task["kind"] == "load":
            import pytorch_data

            if reason := pytorch_data.lacks(task):
                return {"unsupported": reason}
        self.run, self.portion = prepare(task, self.device)
        self.run()
        return {"seconds": seconds_of(self.run, 1) / self.portion, "portion": self.portion}

    def measure(self, request):
        return {"seconds": measure(self.run, **request["round"]) / self.portion}

    def profile(self, request):
        return {"rows": profile(request["task"])}

    def release(self, request):
        self.run = None
        return {}

    def memory(self, request):
        if self.device == "cuda":
            return {"peakBytes": torch.cuda.max_memory_reserved()}
        return {"peakBytes": peak_bytes()}


def main():
    torch.manual_seed(0)
    server = Server()
    with os.fdopen(3, "w") as replies:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = getattr(server, request["do"])(request)
            except Exception as error:  # every failure is an answer
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
