"""ResNet-18 and RegNetY-002 in plain torch, as timm and torchvision have them."""

import torch.nn.functional as F
from torch import nn


def conv_norm(inputs, outputs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = conv_norm(inputs, outputs, 3, stride)
        self.conv2 = conv_norm(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.downsample = None if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        return F.relu(y + residual, inplace=True)


class BlockY(nn.Module):
    def __init__(self, inputs, outputs, stride, group_width):
        super().__init__()
        self.conv1 = conv_norm(inputs, outputs, 1)
        self.conv2 = conv_norm(outputs, outputs, 3, stride, outputs // group_width)
        squeezed = round(inputs / 4)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(outputs, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, outputs, 1),
            nn.Sigmoid(),
        )
        self.conv3 = conv_norm(outputs, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.downsample = None if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.conv2(F.relu(self.conv1(x), inplace=True)), inplace=True)
        return F.relu(self.conv3(y * self.se(y)) + residual, inplace=True)


class Convnet(nn.Module):
    def __init__(self, stem, blocks, width, classes):
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def resnet18(classes):
    stem = nn.Sequential(conv_norm(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [
        BasicBlock(inputs, outputs, 1 if inputs == outputs else 2)
        for inputs, outputs in zip(widths, widths[1:])
    ]
    return Convnet(stem, blocks, 512, classes)


def regnety_002(classes):
    stem = nn.Sequential(conv_norm(3, 32, 3, 2), nn.ReLU(inplace=True))
    blocks, inputs = [], 32
    for depth, outputs in zip([1, 1, 4, 7], [24, 56, 152, 368]):
        for i in range(depth):
            blocks.append(BlockY(inputs, outputs, 2 if i == 0 else 1, 8))
            inputs = outputs
    return Convnet(stem, blocks, inputs, classes)


CONVNETS = {"resnet18": resnet18, "regnety_002": regnety_002}
