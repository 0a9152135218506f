from functools import partial

import keras
from keras import layers
from keras.initializers import HeNormal, RandomNormal

from fedlearn.models.seeded_layers import SeededLayers


def resnet18_gn(
    input_shape: tuple[int, int, int] = (24, 24, 3),
    num_classes: int = 100,
    seed: int | None = None,
    weight_decay: float = 0.0,
) -> keras.Model:
    """The ResNet-18 with group normalization of Reddi et al. 2021.

    Batch normalization fails where clients' data differ (Hsieh et al. 2020),
    so each of its layers is replaced by group normalization with two groups.
    The blocks are those of He et al. 2016: normalize, ReLU, convolve. There
    are 11,227,812 parameters for 100 classes, as with batch normalization.

    In the code of Reddi et al., which this follows, only the first
    convolution and the pooling after it halve the image: the blocks keep its
    size, where those of He et al. halve it three times more. That changes no
    number of parameters, but 24x24 images reach the last block as 6x6 and not
    as 1x1.

    Args:
        input_shape: `(height, width, channels)` of one image: 24x24 when
            cropped as in the paper, or CIFAR's 32x32.
        num_classes, seed: See `fl.models`.
        weight_decay: Factor of an L2 penalty on kernels and on the bias; 1e-4
            in the code of Reddi et al. It is part of the reported loss.

    Example:

    >>> resnet18_gn().count_params()
    11227812

    Sources: Reddi et al. 2021, arXiv:2003.00295, appendix on models. Hsieh,
    Phanishayee, Mutlu and Gibbons, "The non-IID data quagmire of decentralized
    machine learning", ICML 2020. He, Zhang, Ren and Sun, "Identity mappings in
    deep residual networks", ECCV 2016.
    """
    make = SeededLayers(seed, HeNormal)

    def penalty():
        return keras.regularizers.L2(weight_decay) if weight_decay else None

    def convolve(x, filters, size, strides=1):
        return layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=make.initializer(),
            kernel_regularizer=penalty(),
        )(x)

    def normalize(x):
        return layers.GroupNormalization(groups=2)(x)

    def activate(x):
        return layers.ReLU()(normalize(x))

    def block(x, filters, first):
        # The image has just been normalized before the first block.
        y = convolve(x if first else activate(x), filters, 3)
        y = convolve(activate(y), filters, 3)
        if x.shape[-1] != filters:
            x = normalize(convolve(x, filters, 1))
        return layers.Add()([x, y])

    image = keras.Input(input_shape)
    x = activate(convolve(image, 64, 7, strides=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for i, filters in enumerate((64, 64, 128, 128, 256, 256, 512, 512)):
        x = block(x, filters, first=i == 0)
    x = layers.GlobalAveragePooling2D()(activate(x))
    outputs = layers.Dense(
        num_classes,
        activation="softmax",
        kernel_initializer=make.initializer(partial(RandomNormal, 0.0, 0.01)),
        kernel_regularizer=penalty(),
        bias_regularizer=penalty(),
    )(x)
    return keras.Model(image, outputs, name="resnet18_gn")
