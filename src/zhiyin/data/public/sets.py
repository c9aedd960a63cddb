"""Which public data sets there are, where their files lie and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zhiyin.data.public import amazon, goodbooks, movielens
from zhiyin.data.public.tables import Tables
from zhiyin.domain.errors import DataError, did_you_mean

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
_GOODBOOKS = "https://github.com/zygmuntz/goodbooks-10k/releases/download/v1.0"


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: Where it is.
        checksum: ``md5:…`` or ``sha256:…`` where it is known; empty otherwise.
        has_md5_file: Whether the source may publish ``<url>.md5`` beside it.
    """

    url: str
    checksum: str = ""
    has_md5_file: bool = False

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PublicSet:
    """One public data set.

    Attributes:
        name: What `load_public` calls it.
        remote: Files to download.
        needed: Names of the files that are read, inside archives or unpacked.
        read: Turns those files into tables.
        source: Web page.
        terms: What its source says about use, in short.
        optional: Names of files that are read when they are there.
    """

    name: str
    remote: tuple[RemoteFile, ...]
    needed: tuple[str, ...]
    read: Callable[[Mapping[str, Path]], Tables]
    source: str
    terms: str
    optional: tuple[str, ...] = ()


_GROUPLENS_TERMS = "research use; no redistribution without permission; cite Harper and Konstan (2015)"


def _movielens(
    release: str, md5: str, needed: tuple[str, ...], read: Callable[[Mapping[str, Path]], Tables]
) -> PublicSet:
    url = f"{_GROUPLENS}/ml-{release}.zip"
    remote = RemoteFile(url, f"md5:{md5}" if md5 else "", has_md5_file=True)
    page = f"https://grouplens.org/datasets/movielens/{release.removesuffix('-small')}/"
    return PublicSet(f"movielens-{release}", (remote,), needed, read, page, _GROUPLENS_TERMS)


_CSV = ("ratings.csv", "movies.csv")
_DAT = ("ratings.dat", "movies.dat")
_MOVIELENS = (
    _movielens(
        "100k", "0e33842e24a9c977be4e0107933c0723", ("u.data", "u.item", "u.user"), movielens.read_100k
    ),
    _movielens("1m", "c4d9eecfca2ab87c1945afe126590906", (*_DAT, "users.dat"), movielens.read_1m),
    _movielens("10m", "ce571fd55effeba0271552578f2648bd", _DAT, movielens.read_10m),
    _movielens("20m", "cd245b17a1ae2cc31bb14903e1204af3", _CSV, movielens.read_csv_release),
    _movielens("32m", "d472be332d4daa821edc399621853b57", _CSV, movielens.read_csv_release),
    _movielens("latest-small", "", _CSV, movielens.read_csv_release),
)

_GOODBOOKS_SET = PublicSet(
    "goodbooks-10k",
    (RemoteFile(f"{_GOODBOOKS}/goodbooks-10k.zip"),),
    ("ratings.csv", "books.csv"),
    goodbooks.read_goodbooks,
    "https://github.com/zygmuntz/goodbooks-10k",
    "CC BY-SA 4.0",
    optional=("tags.csv", "book_tags.csv"),
)

_AMAZON_2014 = """
    Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics
    Grocery_and_Gourmet_Food Health_and_Personal_Care Home_and_Kitchen Kindle_Store Movies_and_TV
    Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors
    Tools_and_Home_Improvement Toys_and_Games Video_Games
""".split()  # noqa: SIM905
_AMAZON_2023 = """
    All_Beauty Arts_Crafts_and_Sewing Automotive Baby_Products Beauty_and_Personal_Care Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Electronics Gift_Cards Grocery_and_Gourmet_Food
    Health_and_Household Home_and_Kitchen Industrial_and_Scientific Kindle_Store Magazine_Subscriptions
    Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software
    Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games
""".split()  # noqa: SIM905
_KNOWN_2023 = {"Video_Games": "sha256:a2bde5f3b945960d161538c200dd87845e6ee471b46da96410dde61613c6901c"}


def _slug(category: str) -> str:
    return category.lower().replace("_", "-")


def _amazon_2014(category: str) -> PublicSet:
    reviews, meta = f"reviews_{category}_5.json", f"meta_{category}.json"
    return PublicSet(
        f"amazon-2014-{_slug(category)}",
        (RemoteFile(f"{_SNAP}/{reviews}.gz"), RemoteFile(f"{_SNAP}/{meta}.gz")),
        (reviews, meta),
        amazon.read_2014,
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        "research use; cite McAuley et al. (SIGIR 2015) and He and McAuley (WWW 2016)",
    )


def _amazon_2023(category: str) -> PublicSet:
    ratings, meta = f"{category}.csv", f"meta_{category}.jsonl"
    rated = f"{_UCSD}/benchmark/5core/rating_only/{ratings}.gz"
    return PublicSet(
        f"amazon-2023-{_slug(category)}",
        (
            RemoteFile(rated, _KNOWN_2023.get(category, "")),
            RemoteFile(f"{_UCSD}/raw/meta_categories/{meta}.gz"),
        ),
        (ratings, meta),
        amazon.read_2023,
        "https://amazon-reviews-2023.github.io/",
        "research use; cite Hou et al. (2024), Bridging Language and Items for Retrieval and Recommendation",
    )


PUBLIC_SETS: dict[str, PublicSet] = {
    public.name: public
    for public in (
        *_MOVIELENS,
        _GOODBOOKS_SET,
        *(_amazon_2014(category) for category in _AMAZON_2014),
        *(_amazon_2023(category) for category in _AMAZON_2023),
    )
}


def public_set(name: str) -> PublicSet:
    """Return a public data set by its name.

    Raises:
        DataError: when there is none of that name.
    """
    if name not in PUBLIC_SETS:
        raise DataError(
            f"There is no public data set '{name}'.{did_you_mean(name, PUBLIC_SETS)}",
            possible=f"There are: {', '.join(PUBLIC_SETS)}.",
        )
    return PUBLIC_SETS[name]
