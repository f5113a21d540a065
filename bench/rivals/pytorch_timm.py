"""The same models from timm, which this imports when they are asked for: it need not be installed."""


def version():
    import timm

    return timm.__version__


def vit(image, patch, dim, depth, heads, classes):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=image, patch_size=patch, embed_dim=dim, depth=depth, num_heads=heads, num_classes=classes
    )


def swin(image, patch, dim, depths, heads, window, classes, drop_path=0.0):
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=image,
        patch_size=patch,
        embed_dim=dim,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_size=window,
        drop_path_rate=drop_path,
        num_classes=classes,
    )


def convnet(model, classes):
    import timm

    return timm.create_model(model, num_classes=classes)
