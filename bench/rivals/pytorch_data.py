"""The loader's tasks (`load` in bench/tasks.ts): torch's DataLoader, with torchvision's transforms as its code applies them to Pillow's images.

torchvision itself is imported for RandAugment alone: it need not be installed.
"""

import math
import os

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def crop(image, top, left, height, width):
    return image.crop((left, top, left + width, top + height))


def random_resized_crop(image, size=224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    width, height = image.size
    log_ratio = torch.log(torch.tensor(ratio))
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(*scale).item()
        aspect = torch.exp(torch.empty(1).uniform_(log_ratio[0], log_ratio[1])).item()
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = torch.randint(0, height - h + 1, size=(1,)).item()
            left = torch.randint(0, width - w + 1, size=(1,)).item()
            return crop(image, top, left, h, w).resize((size, size), Image.BICUBIC)
    # Photographs of 4 : 3 are as wide as is allowed: the whole one, and no part of it.
    return image.resize((size, size), Image.BICUBIC)


def random_crop(image, size=32, padding=4):
    padded = ImageOps.expand(image, border=padding, fill=(0, 0, 0))
    width, height = padded.size
    top = torch.randint(0, height - size + 1, size=(1,)).item()
    left = torch.randint(0, width - size + 1, size=(1,)).item()
    return crop(padded, top, left, size, size)


def random_flip(image, p=0.5):
    return image.transpose(Image.FLIP_LEFT_RIGHT) if torch.rand(1) < p else image


def resize(image, size=256):
    width, height = image.size
    long = int(size * max(width, height) / min(width, height))
    return image.resize((size, long) if width <= height else (long, size), Image.BICUBIC)


def center_crop(image, size=224):
    width, height = image.size
    return crop(image, round((height - size) / 2.0), round((width - size) / 2.0), size, size)


def to_tensor(image):
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    return pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)


def normalize(image):
    mean = torch.as_tensor(MEAN, dtype=image.dtype).view(-1, 1, 1)
    std = torch.as_tensor(STD, dtype=image.dtype).view(-1, 1, 1)
    return image.clone().sub_(mean).div_(std)


def steps(transform):
    """From one of Pillow's images to a tensor."""
    if transform == "augment":
        from torchvision import transforms

        augment = transforms.RandAugment(2, 9, interpolation=transforms.InterpolationMode.BICUBIC)
        erase = transforms.RandomErasing(0.25, value="random")
        return [random_resized_crop, random_flip, augment, to_tensor, normalize, erase]
    pillow = {
        "crop": [random_resized_crop, random_flip],
        "center": [resize, center_crop],
        "cifar": [random_crop, random_flip],
    }
    return [*pillow[transform], to_tensor, normalize]


def lacks(task):
    """Why a task cannot be run here, if so."""
    try:
        steps(task["transform"])
    except Exception as error:  # a torchvision of another torch fails in ways of its own
        return f"RandAugment is torchvision's, which says: {error}"


class Images(Dataset):
    """As torchvision's ImageFolder and CIFAR10 give them, so many in an epoch."""

    def __init__(self, task, count):
        self.steps = steps(task["transform"])
        self.count = count
        self.folder = task.get("photographs")
        if self.folder is None:
            pixels = np.random.randint(0, 256, (count, 32, 32, 3), np.uint8)
            self.samples = [(pixels[i], i % 2) for i in range(count)]
        else:
            classes = sorted(os.listdir(self.folder))
            self.samples = [
                (os.path.join(self.folder, name, file), label)
                for label, name in enumerate(classes)
                for file in sorted(os.listdir(os.path.join(self.folder, name)))
            ]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        source, label = self.samples[index % len(self.samples)]
        if self.folder is None:
            image = Image.fromarray(source)
        else:
            with open(source, "rb") as file:
                image = Image.open(file).convert("RGB")
        for step in self.steps:
            image = step(image)
        return image, label


def load(task, workers):
    """An epoch in which each worker makes the task's batches, and how many those are."""
    batches = task["batchesPerWorker"] * workers
    images = Images(task, batches * task["batch"])
    loader = DataLoader(images, task["batch"], shuffle=True, num_workers=workers, persistent_workers=True)

    def run():
        for _ in loader:
            pass

    return run, batches
