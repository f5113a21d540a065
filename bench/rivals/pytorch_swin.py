"""Swin in plain torch, as timm writes it: roll, partition into windows, attention with bias and mask, and back."""

import torch
import torch.nn.functional as F
from torch import nn


def partition(x, w):
    B, H, W, C = x.shape
    return x.view(B, H // w, w, W // w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, C)


def reverse(windows, w, H, W):
    C = windows.shape[-1]
    return windows.view(-1, H // w, W // w, w, w, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, H, W, C)


def relative_index(w):
    y, x = torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + w - 1
    return offsets[0] * (2 * w - 1) + offsets[1]


def shift_mask(H, W, w, shift):
    """-100 between the regions of a window that only the shift has brought together."""
    ids = torch.zeros(1, H, W, 1)
    slices = (slice(0, -w), slice(-w, -shift), slice(-shift, None))
    for i, rows in enumerate(slices):
        for j, columns in enumerate(slices):
            ids[:, rows, columns] = 3 * i + j
    ids = partition(ids, w).squeeze(-1)
    return (ids[:, None, :] != ids[:, :, None]).float() * -100


def attend(qkv, bias, mask, heads):
    """Softmax attention of windows [windows, n, 3 C] with a bias [heads, n, n] and a mask [windows of a map, n, n]."""
    B, n, features = qkv.shape
    q, k, v = qkv.reshape(B, n, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    if mask is not None:
        scores = (scores.view(-1, len(mask), heads, n, n) + mask[:, None]).view(-1, heads, n, n)
    return (F.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(B, n, features // 3)


def window_attention(qkv, table, index, mask, window, shift):
    """From the projection [B, H, W, 3 C] of a map to [B, H, W, C]."""
    _, H, W, _ = qkv.shape
    heads, n = table.shape[1], window * window
    bias = table[index.view(-1)].view(n, n, heads).permute(2, 0, 1)
    if shift > 0:
        qkv = torch.roll(qkv, (-shift, -shift), (1, 2))
    x = reverse(attend(partition(qkv, window), bias, mask, heads), window, H, W)
    return torch.roll(x, (shift, shift), (1, 2)) if shift > 0 else x


class Block(nn.Module):
    def __init__(self, dim, heads, map, window, shift, drop_path):
        super().__init__()
        self.window, self.shift, self.heads = window, shift, heads
        self.norm1 = nn.LayerNorm(dim)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1, self.act, self.fc2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        self.register_buffer("index", relative_index(window))
        self.drop_path = drop_path
        self.register_buffer("mask", shift_mask(map, map, window, shift) if shift > 0 else None)

    def attention(self, x):
        _, H, W, C = x.shape
        n = self.window**2
        if self.shift > 0:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        bias = self.table[self.index.view(-1)].view(n, n, self.heads).permute(2, 0, 1).contiguous()
        x = self.proj(attend(self.qkv(partition(x, self.window)), bias, self.mask, self.heads))
        x = reverse(x, self.window, H, W)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift > 0 else x

    def drop(self, x):
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)

    def forward(self, x):
        x = x + self.drop(self.attention(self.norm1(x)))
        B, H, W, C = x.shape
        x = x.reshape(B, -1, C)
        x = x + self.drop(self.fc2(self.act(self.fc1(self.norm2(x)))))
        return x.reshape(B, H, W, C)


class Merge(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        B, H, W, C = x.shape
        x = x.reshape(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self, image, patch, dim, depths, heads, window, classes, drop_path=0.0):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.embed_norm = nn.LayerNorm(dim)
        map = image // patch
        layers = []
        for i, depth in enumerate(depths):
            if i > 0:
                layers.append(Merge(dim))
                dim, map = 2 * dim, map // 2
            for j in range(depth):
                shift = window // 2 if j % 2 and map > window else 0
                rate = drop_path * (sum(depths[:i]) + j) / (sum(depths) - 1)
                layers.append(Block(dim, heads[i], map, window, shift, rate))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.embed_norm(self.patch_embed(x).permute(0, 2, 3, 1))
        return self.head(self.norm(self.layers(x)).mean((1, 2)))
