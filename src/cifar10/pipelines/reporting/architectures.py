"""A paragraph an architecture: what it is, what it is good at here, and where its limits are."""

DESCRIPTIONS = {
    "simple_cnn": (
        "Three convolutions and two dense layers, as in many a first notebook. It trains in minutes on any "
        "machine and shows what a plain network can do; without normalisation and with most of its weights in the "
        "dense layer, it stops learning long before deeper networks do."
    ),
    "batchnorm_cnn": (
        "Three convolutions, each with batch normalisation, pooling and dropout. The normalisation lets it learn "
        "faster than a plain network; much dropout keeps it from overfitting, and costs it capacity, so that "
        "augmentation gains it little."
    ),
    "deep_cnn": (
        "A deeper network from scratch, convolutions only, with a global average instead of large dense layers. "
        "Most of the accuracy of far larger networks for a small part of their cost: the sensible default on a "
        "laptop."
    ),
    "airbench94": (
        "Made to reach 94% in the least time (Jordan 2024): a fixed layer that whitens patches, six convolutions "
        "that begin as identities, and a recipe tuned to the last detail. Unbeaten for its training time; tuned "
        "for this very task, so little of it carries over to others, and the whitening magnifies noise: on noisy "
        "pictures it fell behind all others that were tried here."
    ),
    "vgg16": (
        "Thirteen 3x3 convolutions in five stages (Simonyan and Zisserman 2014), with batch normalisation, and a "
        "small head for 32 pixels. Simple, regular and fast on any hardware; without shortcuts it has reached "
        "about the depth it can be trained at."
    ),
    "vgg19": (
        "VGG16 with three more convolutions. On pictures this small the added depth costs a quarter more and has "
        "hardly ever paid."
    ),
    "resnet50": (
        "Bottleneck blocks with shortcuts (He et al. 2015), its stem fitted to 32 pixels. Shortcuts let depth "
        "pay: among the most accurate networks from scratch, and slow on a CPU."
    ),
    "resnet101": (
        "ResNet50 with a third stage four times as long. Twice the cost for a fraction of a point at most: 45,000 "
        "pictures do not need so much network."
    ),
    "googlenet": (
        "Inception modules (Szegedy et al. 2014): filters of several sizes side by side, their outputs joined. "
        "Few parameters for much computing; the many small branches are slow to launch and use hardware poorly."
    ),
    "densenet121": (
        "Every layer sees the outputs of all before it in its block (Huang et al. 2016). Accurate with few "
        "parameters; the joined maps need much memory, so it trains slowly for its size."
    ),
    "efficientnetb0": (
        "Inverted residuals with squeeze-and-excitation, their widths and depths found by search (Tan and Le "
        "2019). Very few operations for what it knows; depthwise convolutions use hardware poorly, so it is "
        "slower than it looks on paper."
    ),
    "nasnetmobile": (
        "Cells found by search (Zoph et al. 2017), in the small version. Accurate for its operations; its "
        "hundreds of tiny separable convolutions make it one of the slowest to train."
    ),
    "mobilenetv2": (
        "Inverted residuals on depthwise convolutions (Sandler et al. 2018), made for phones. Small and cheap; "
        "from scratch it needs many epochs to come near the large ones."
    ),
}
TRANSFER = (
    "Starts from weights learnt on ImageNet, on pictures enlarged for it; a new head is trained first, then its last "
    "layers. It needs few epochs and few pictures to be good, but larger pictures, and what it was fed before is not "
    "in this project's hands: ImageNet shows some of the same classes."
)


def describe(name: str) -> str:
    """What there is to say of that architecture."""
    backbone = name.removesuffix("_imagenet")
    return f"{DESCRIPTIONS[backbone]} {TRANSFER}" if backbone != name else DESCRIPTIONS[name]
