"""The tables and columns that a data folder may hold, and what they are called elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from zhiyin.domain.errors import did_you_mean

TABLES = ("interactions", "items", "users", "facts", "impressions")

REQUIRED = {
    "interactions": ("user_id", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
    "facts": ("head", "relation", "tail"),
    "impressions": (),
}
"""Table → the columns without which it cannot be used."""

KNOWN = {
    "interactions": ("user_id", "item_id", "timestamp", "event", "value"),
    "items": (
        "item_id",
        "title",
        "description",
        "categories",
        "brand",
        "price",
        "domain",
        "image",
        "audio",
    ),
    "users": ("user_id",),
    "facts": ("head", "relation", "tail"),
    "impressions": ("user_id", "item_id", "timestamp", "rank", "propensity"),
}
"""Table → the columns with a meaning; every other column is context or an attribute."""

_ALIASES = {
    "user_id": "user uid userid useridx customer customerid client clientid member memberid visitor "
    "visitorid reader viewer "
    "player buyer account accountid reviewer reviewerid session sessionid profileid 用户 用户id 会员 会员id",
    "item_id": "item iid itemid itemidx product productid article articleid movie movieid film filmid book "
    "bookid song songid track trackid video videoid news newsid asin parentasin sku goods goodsid ad adid "
    "contentid id 商品 商品id 物品 物品id 电影 电影id",
    "timestamp": "time ts date datetime when unixtime unixreviewtime createdat eventtime timestampms "
    "dateadded reviewtime 时间 日期 时间戳",
    "event": "eventtype eventname action actiontype behavior behaviour behaviortype kind type 行为 事件",
    "value": "rating ratings score stars star overall label amount quantity count weight 评分 分数",
    "title": "name itemname productname producttitle movietitle 标题 名称 商品名称 电影名称",
    "description": "desc abstract summary plot overview body text 描述 简介 剧情简介",
    "categories": "category genre genres tags topic topics 类别 类目 类型 分类",
    "brand": "manufacturer maker author publisher 品牌",
    "price": "cost listprice 价格",
    "head": "subject source h 头",
    "relation": "predicate rel r 关系",
    "tail": "object target t 尾",
}
_UNCLEAR = {"id", "name", "account", "source", "when"}
"""Other names that stand for much else."""
_OTHER_NAMES = {name: frozenset(words.split()) for name, words in _ALIASES.items()}
_NAME_OF_ALIAS = {alias: name for name, aliases in reversed(_OTHER_NAMES.items()) for alias in aliases}


def plain(column: str) -> str:
    """Return a column name without case, blanks, hyphens and underscores."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def column_for(name: str, columns: Iterable[str]) -> str | None:
    """Guess which of a file's columns holds what Zhiyin calls ``name``; None when none looks like it."""
    columns = list(columns)
    for column in columns:
        if plain(column) == plain(name):
            return column
    for column in columns:
        if plain(column) in _OTHER_NAMES.get(name, ()):
            return column
    for column in columns:
        if did_you_mean(plain(column), [plain(name)]):
            return column
    return None


def column_named(name: str, columns: Iterable[str]) -> str | None:
    """Find the column that is called ``name`` or a clear other name of it; None rather than a guess."""
    clear = ({plain(name)} | _OTHER_NAMES.get(name, frozenset())) - _UNCLEAR
    return next((column for column in columns if plain(column) in clear), None)


def stands_for(column: str) -> str | None:
    """Return the known column that a file's column is another name of, or None."""
    return _NAME_OF_ALIAS.get(plain(column))
