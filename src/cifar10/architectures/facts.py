"""Facts about the architectures, which need no training: what a network costs, and what others report of it.

`kedro models` and the report show them. They are data, because computing the first three would take building each
network; a test builds them. An architecture may lack them. None of them enters a recipe or its hash.
"""

from typing import NamedTuple

NOTEBOOK = "a notebook of unknown author, with this network"
LONG = "--env=long"
GUESS = (
    "a guess, between a linear classifier on the features and fine-tuning of the whole backbone (97.5% with ResNet50, "
    "arXiv 1805.08974), because no results with these last layers are known"
)


class Facts(NamedTuple):
    """What is known of an architecture before it is trained.

    Attributes:
        parameters: the number of weights, with ten classes and the recipe of `conf/base`.
        flops: of one image, as `compute.flops` counts them.
        image_size: side in pixels at which the network computes.
        expected: the lowest and highest test accuracy to expect, fractions. Nearly all published accuracies are those
            of the epoch that was best on the test images; here validation chooses the epoch.
        source: of that expectation, and by what recipe it was reached if not that of `conf/base`.
    """

    parameters: int
    flops: int
    image_size: int
    expected: tuple[float, float]
    source: str

    @property
    def expectation(self) -> str:
        """The expected test accuracy in per cent, as text."""
        low, high = (f"{100 * each:.4g}" for each in self.expected)
        return f"{low}%" if low == high else f"{low} to {high}%"


FACTS = {
    "simple_cnn": Facts(356_810, 21_170_688, 32, (0.78, 0.78), NOTEBOOK),
    "batchnorm_cnn": Facts(1_774_506, 40_314_880, 32, (0.8024, 0.8024), NOTEBOOK),
    "deep_cnn": Facts(
        1_168_362,
        86_709_248,
        32,
        (0.87, 0.87),
        "a notebook of unknown author, with a network of this kind",
    ),
    "airbench94": Facts(
        1_973_944,
        236_294_720,
        32,
        (0.94, 0.94),
        "Jordan 2024 (arXiv 2404.00498): 9.9 epochs on all 50,000 images, six views of a test image averaged",
    ),
    "vgg16": Facts(
        14_732_490,
        626_403_328,
        32,
        (0.94, 0.94),
        f"huyvnphan/PyTorch_CIFAR10 94.00%, kuangliu/pytorch-cifar 92.64%; {LONG}",
    ),
    "vgg19": Facts(20_046_026, 796_272_640, 32, (0.94, 0.94), f"huyvnphan/PyTorch_CIFAR10 93.95%; {LONG}"),
    "resnet50": Facts(
        23_573_962,
        2_595_659_776,
        32,
        (0.95, 0.95),
        f"more than the 93.62% of kuangliu/pytorch-cifar, whose stepwise schedule is older; {LONG}",
    ),
    "resnet101": Facts(
        42_618_314,
        5_019_967_488,
        32,
        (0.95, 0.95),
        f"more than the 93.75% of kuangliu/pytorch-cifar, whose stepwise schedule is older; {LONG}",
    ),
    "googlenet": Facts(
        5_886_218,
        2_894_483_456,
        32,
        (0.94, 0.94),
        f"more than the 92.85% of huyvnphan/PyTorch_CIFAR10, whose stem halves the image; {LONG}",
    ),
    "densenet121": Facts(7_039_818, 1_776_701_440, 32, (0.95, 0.95), f"kuangliu/pytorch-cifar 95.04%; {LONG}"),
    "efficientnetb0": Facts(
        4_062_374,
        232_334_336,
        32,
        (0.93, 0.94),
        f"as mobilenetv2, whose blocks it shares, because no published run of this kind is known; {LONG}",
    ),
    "nasnetmobile": Facts(
        4_251_578,
        1_318_281_856,
        32,
        (0.95, 0.95),
        f"less than 6 cells per stage @ 768 in 600 epochs with drop-path, 97.35% (arXiv 1707.07012); {LONG}",
    ),
    "mobilenetv2": Facts(2_270_794, 175_952_896, 32, (0.94, 0.94), f"huyvnphan/PyTorch_CIFAR10 93.91%; {LONG}"),
    "vgg16_imagenet": Facts(14_849_610, 30_693_528_576, 224, (0.90, 0.92), GUESS),
    "vgg19_imagenet": Facts(20_159_306, 39_017_124_864, 224, (0.90, 0.92), GUESS),
    "resnet50_imagenet": Facts(24_115_850, 7_712_904_192, 224, (0.93, 0.95), GUESS),
    "resnet101_imagenet": Facts(43_186_314, 15_137_346_560, 224, (0.94, 0.95), GUESS),
    "densenet121_imagenet": Facts(7_303_498, 5_666_804_736, 224, (0.93, 0.95), GUESS),
    "efficientnetb0_imagenet": Facts(
        4_381_101,
        769_729_984,
        224,
        (0.94, 0.96),
        "a guess, because fine-tuning all of it gives 98.1% (arXiv 1905.11946)",
    ),
    "nasnetmobile_imagenet": Facts(4_543_902, 1_125_711_424, 224, (0.92, 0.94), GUESS),
    "mobilenetv2_imagenet": Facts(
        2_589_514,
        196_248_576,
        128,
        (0.8876, 0.8876),
        "what a notebook reached that unfroze the last 20 layers at 224 pixels: --env=notebook",
    ),
}
