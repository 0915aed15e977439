"""The colours of the figures and pages, from the palette of Okabe and Ito (2008), safe for all kinds of colour vision.

Apart from `figures`, because importing matplotlib takes longer than what the commands in a terminal do.
"""

BLUE, ORANGE, GREEN, PINK, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"
FEW = (BLUE, ORANGE, GREEN, PINK, SKY)  # for the best models; more colours could not be distinguished
