"""Tiny archives in the true formats of the public data sets, and a server that misbehaves on demand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GENRE_FLAGS = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"


def zipped(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def movielens_100k() -> bytes:
    return zipped(
        {
            "ml-100k/u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t5\t881250950\n",
            "ml-100k/u.item": (
                f"242|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M|{GENRE_FLAGS}\n"
                f"302|Misérables, Les (1995)|||http://us.imdb.com/X|{'|'.join('0' * 19)}\n"
            ).encode("latin-1"),
            "ml-100k/u.user": "186|39|F|executive|00000\n196|49|M|writer|55105\n",
            "ml-100k/u1.base": "not read\n",
        }
    )


def movielens_1m() -> bytes:
    return zipped(
        {
            "ml-1m/ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
            "ml-1m/movies.dat": (
                "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
                "1193::Misérables, Les: a \x85 story (1995)::Drama\n"
            ).encode("latin-1"),
            "ml-1m/users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
        }
    )


def movielens_10m() -> bytes:
    return zipped(
        {
            "ml-10M100K/ratings.dat": "1::122::5::838985046\n1::185::4.5::838983525\n",
            "ml-10M100K/movies.dat": "122::Boomerang (1992)::Comedy|Romance\n185::Café::(no genres listed)\n",
            "ml-10M100K/tags.dat": "15::4973::excellent!::1215184630\n",
        }
    )


def movielens_csv(folder: str = "ml-latest-small") -> bytes:
    return zipped(
        {
            f"{folder}/ratings.csv": (
                "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,3,0.5,964981247\n"
            ),
            f"{folder}/movies.csv": (
                "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
                '3,"American President, The (1995)",(no genres listed)\n'
            ),
            f"{folder}/links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
        }
    )


def goodbooks() -> bytes:
    return zipped(
        {
            "goodbooks-10k/samples/tags.csv": "tag_id,tag_name\n5,wrong\n",
            "goodbooks-10k/ratings.csv": "user_id,book_id,rating\n1,2,5\n2,1,4\n1,1,2\n",
            "goodbooks-10k/books.csv": (
                "book_id,goodreads_book_id,best_book_id,authors,original_publication_year,title,"
                "language_code,image_url\n"
                '1,2767052,2767052,Suzanne Collins,2008.0,"The Hunger Games (The Hunger Games, #1)",eng,http://i\n'
                '2,3,3,"J.K. Rowling, Mary GrandPré",,Philosopher,,http://i/2.jpg\n'
            ),
            "goodbooks-10k/tags.csv": "tag_id,tag_name\n5,fantasy\n6,to-read\n",
            "goodbooks-10k/book_tags.csv": "goodreads_book_id,tag_id,count\n3,5,10\n3,6,99\n",
        }
    )


def amazon_2014() -> dict[str, bytes]:
    reviews = [
        {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1369699200, "helpful": [0, 0]},
        {"reviewerID": "A1", "asin": "B2", "overall": 2.0, "unixReviewTime": 1369699200, "reviewText": "x"},
        {"reviewerID": "A2", "asin": "B3", "overall": 4.0, "unixReviewTime": 1355443200},
    ]
    items = [
        {
            "asin": "B1",
            "title": 'Brush\'s "Best"',
            "description": "Soft 'asin': 'B2'",
            "categories": [["Beauty", "Tools", "Brushes"], ["Gifts"]],
            "brand": "Eco",
            "price": 12.5,
            "imUrl": "http://i/1.jpg",
            "related": {"also_viewed": ["B3"]},
        },
        {"asin": "B9", "title": "never reviewed", "categories": [["Beauty"]]},
        {"asin": "B2", "categories": [["Beauty", "Hair"]]},
    ]
    return {
        "reviews_Beauty_5.json.gz": gzip.compress("\n".join(json.dumps(row) for row in reviews).encode()),
        "meta_Beauty.json.gz": gzip.compress("\n".join(repr(row) for row in items).encode()),
    }


def amazon_2023() -> dict[str, bytes]:
    ratings = "user_id,parent_asin,rating,timestamp\nAG,B1,3.0,1452647382000\nAG,B2,4.0,1454675785999\n"
    items = [
        {"parent_asin": "B0", "title": "never rated"},
        {
            "main_category": "Video Games",
            "title": "Racing ",
            "features": ["Fast."],
            "description": ["Cars."],
            "price": "$1,299.00",
            "images": [{"thumb": "http://t", "large": "http://l", "hi_res": None}],
            "store": "Nintendo",
            "categories": ["Video Games", "PC", "Games"],
            "details": {"Best Sellers Rank": {"Video Games": 51019}},
            "parent_asin": "B1",
            "bought_together": None,
        },
        {"title": None, "price": None, "images": [], "categories": [], "parent_asin": "B2"},
    ]
    return {
        "All_Beauty.csv.gz": gzip.compress(ratings.encode()),
        "meta_All_Beauty.jsonl.gz": gzip.compress("\n".join(json.dumps(row) for row in items).encode()),
    }


def md5_file(name: str, content: bytes) -> bytes:
    return f"MD5 ({name}) = {hashlib.md5(content).hexdigest()}\n".encode()


@dataclass
class Server:
    """What the server holds, how it misbehaves, and what it was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    supports_ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)
    busy_answers: int = 0
    version: str = '"v1"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, state: Server) -> None:
    name = handler.path.lstrip("/")
    asked_range = handler.headers.get("Range")
    if name in state.files:
        state.asked.append((name, asked_range))
    if state.busy_answers:
        state.busy_answers -= 1
        handler.send_error(503)
        return
    if name not in state.files:
        handler.send_error(404)
        return
    content = state.files[name]
    start = 0
    same = handler.headers.get("If-Range", state.version) == state.version
    if asked_range and state.supports_ranges and same:
        start = int(asked_range.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    body = content[start:]
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", state.version)
    handler.end_headers()
    if state.breaks_after:
        body = body[: state.breaks_after.pop(0)]
    handler.wfile.write(body)
