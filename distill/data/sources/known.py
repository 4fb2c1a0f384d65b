"""The data sets of polyp segmentation by name: how people call their folders, where they come from, on which terms.

A licence stands here where a source was at hand that states it; an empty one means "see the page".
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from distill.data.part_names import plain


@dataclass(frozen=True)
class FieldData:
    """The facts of one data set."""

    title: str
    folders: tuple[str, ...]  # names of its folder, as `plain` makes them
    page: str
    images: tuple[int, ...] = ()  # how many it has, in the editions that are in use
    licence: str = ""
    citation: str = ""
    starts: tuple[int, ...] = ()  # number of each sequence's first frame, then that after the last; none: not known


FIELD = {
    "kvasir-seg": FieldData(
        title="Kvasir-SEG",
        folders=("kvasirseg", "kvasir"),
        page="https://datasets.simula.no/kvasir-seg/",
        images=(1000,),
        licence="research and education",
        citation="Jha, D. et al. (2020). Kvasir-SEG: A Segmented Polyp Dataset. MultiMedia Modeling (MMM) 2020.",
    ),
    "cvc-clinicdb": FieldData(
        title="CVC-ClinicDB",
        folders=("cvcclinicdb", "clinicdb", "cvc612"),
        page="https://polyp.grand-challenge.org/CVCClinicDB/",
        images=(612,),
        licence="research and education, not for commercial purposes",
        citation="Bernal, J. et al. (2015). WM-DOVA maps for accurate polyp highlighting in colonoscopy: Validation "
        "vs. saliency maps from physicians. Computerized Medical Imaging and Graphics 43, 99-111.",
        starts=(
            *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298, 318, 343, 364, 384, 409, 429, 448),
            *(467, 479, 504, 529, 547, 572, 592, 613),
        ),
    ),
    "cvc-colondb": FieldData(
        title="CVC-ColonDB",
        folders=("cvccolondb", "colondb"),
        page="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
        images=(380, 300),
        citation="Bernal, J., Sánchez, J. and Vilariño, F. (2012). Towards automatic polyp detection with a polyp "
        "appearance model. Pattern Recognition 45(9), 3166-3182.",
    ),
    "etis": FieldData(
        title="ETIS-Larib Polyp DB",
        folders=("etis", "etislarib", "etislaribpolypdb"),
        page="https://polyp.grand-challenge.org/EtisLarib/",
        images=(196,),
        citation="Silva, J. et al. (2014). Toward embedded detection of polyps in WCE images for early diagnosis of "
        "colorectal cancer. International Journal of Computer Assisted Radiology and Surgery 9(2), 283-293.",
    ),
    "cvc-300": FieldData(
        title="CVC-300 of CVC-EndoSceneStill",
        folders=("cvc300",),
        page="https://github.com/DengPingFan/PraNet (60 of its images, with PraNet's test sets)",
        images=(60, 300),
        citation="Vázquez, D. et al. (2017). A benchmark for endoluminal scene segmentation of colonoscopy images. "
        "Journal of Healthcare Engineering 2017, 4037190.",
    ),
    "polypgen": FieldData(
        title="PolypGen",
        folders=("polypgen", "polypgen2021multicenterdatav3"),
        page="https://doi.org/10.7303/syn26376615",
        licence="CC BY 4.0",
        citation="Ali, S. et al. (2023). A multi-centre polyp detection and segmentation dataset for generalisability "
        "assessment. Scientific Data 10, 75.",
    ),
    "pranet": FieldData(
        title="PraNet's training and test sets",
        folders=("pranet",),
        page="https://github.com/DengPingFan/PraNet",
        citation="Fan, D.-P. et al. (2020). PraNet: Parallel reverse attention network for polyp segmentation. "
        "MICCAI 2020.",
    ),
}


def named(folder: str) -> str | None:
    """The name under which a data set of the field is known, from that of a folder: `Kvasir` is kvasir-seg."""
    key = plain(folder)
    part = re.sub("(c[1-6]|sequences|unlabelled)$", "", key)  # polypgen-c1
    return next((name for name, known in FIELD.items() if {key, part} & {plain(name), *known.folders}), None)


def where_from(name: str) -> str:
    """The page and the licence of a data set, as the end of a sentence."""
    known = FIELD[name]
    return f"{known.title} is had from {known.page} (licence: {known.licence or 'see the page'})"


def known_sequences(name: str, stems: Iterable[str]) -> dict[str, str]:
    """The sequence of each frame of a data set of the field, by its number, where that is known."""
    starts = FIELD[found].starts if (found := named(name)) else ()
    numbers = {stem: int(stem) for stem in stems if stem.isdecimal()}
    return {stem: str(bisect(starts, n)) for stem, n in numbers.items() if starts and starts[0] <= n < starts[-1]}
