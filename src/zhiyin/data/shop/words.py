"""The words of the simulated shop: every latent property of an item has several English and Chinese names.

A taste is a liking for properties, and a text says the properties in words; so language carries taste. Each
property has synonyms, so that exact words carry only a part of what a language model can read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One value of a property.

    Attributes:
        key: Its plain name, used in facts and attributes.
        english: Names in English, the first equal to the key.
        chinese: Names in Chinese, the first used in facts and attributes.
    """

    key: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]


def _words(lines: str) -> tuple[Word, ...]:
    """Read lines of ``english, english, … | 中文, 中文, …``."""
    words = []
    for line in lines.strip().splitlines():
        english, chinese = (
            tuple(name.strip() for name in side.split(",")) for side in line.split("|", maxsplit=1)
        )
        words.append(Word(english[0], english, chinese))
    return tuple(words)


TOPICS = _words("""
    tea, tea drinking, the tea table | 茶, 品茶, 茶席
    coffee, fresh coffee, espresso and filter coffee | 咖啡, 手冲咖啡, 现磨咖啡
    bread, bread baking, sourdough | 面包, 烘焙面包, 酸面团
    grilling, barbecue, cooking over fire | 烧烤, 炭火烹饪, 户外烤肉
    noodles, noodle soup, hand-pulled noodles | 面条, 汤面, 手擀面
    fermenting, pickling, kimchi and kombucha | 发酵, 腌渍, 泡菜
    gardens, gardening, the kitchen garden | 花园, 园艺, 菜园
    desserts, cakes and sweets, pastry | 甜点, 蛋糕, 糕点
    mountains, mountain hiking, the high peaks | 山, 登山徒步, 高峰
    the sea, sailing and the coast, ocean life | 海, 海岸与航行, 海洋
    forests, woodland walks, deep woods | 森林, 林间漫步, 密林
    winter, snow and ice, cold days | 冬天, 冰雪, 寒冷的日子
    travel, long journeys, faraway places | 旅行, 长途旅程, 远方
    cycling, bicycle touring, riding by bike | 骑行, 自行车旅行, 单车
    fishing, angling, fly fishing | 钓鱼, 垂钓, 飞蝇钓
    birds, birdwatching, the life of birds | 鸟, 观鸟, 飞鸟
    the stars, stargazing, the night sky | 星空, 观星, 夜空
    crime, murder and detectives, a cold case | 罪案, 侦探, 悬案
    love, romance, matters of the heart | 爱情, 恋爱, 心事
    space, spaceships, distant planets | 太空, 飞船, 遥远的星球
    family, parents and children, three generations | 家庭, 父母与孩子, 三代人
    history, the past, empires and revolutions | 历史, 往昔, 帝国与革命
    myths, legends, old gods | 神话, 传说, 古老的神
    music, jazz and concerts, the life of a musician | 音乐, 爵士与音乐会, 乐手生涯
    art, painting, museums and painters | 艺术, 绘画, 美术馆
""")

STYLES = _words("""
    rustic, farmhouse-style, country-style | 乡村风, 质朴, 田园风
    minimalist, clean-lined, pared-back | 极简, 线条干净, 简约
    vintage, retro, old-fashioned | 复古, 怀旧, 老式
    playful, cheerful, whimsical | 俏皮, 欢快, 童趣
    elegant, refined, graceful | 优雅, 精致, 典雅
    industrial, workshop-style, raw-looking | 工业风, 车间风, 粗犷
    Japanese-style, zen-like, wabi-sabi | 日式, 禅意, 侘寂
    Nordic, Scandinavian, hygge-like | 北欧风, 斯堪的纳维亚, 温馨北欧
    quiet, contemplative, slow-paced | 安静, 沉思, 舒缓
    witty, funny, satirical | 风趣, 幽默, 讽刺
    dark, gloomy, unsettling | 黑暗, 阴郁, 令人不安
    warm-hearted, comforting, feel-good | 温暖, 治愈, 暖心
    fast-paced, gripping, breathless | 快节奏, 扣人心弦, 紧张刺激
    poetic, lyrical, dreamlike | 诗意, 抒情, 梦幻
    scholarly, well-researched, in-depth | 学术, 考据严谨, 深入
    practical, hands-on, step-by-step | 实用, 动手, 循序渐进
""")
"""The first eight are looks of goods, the others moods of books."""

MATERIALS = _words("""
    oak, solid oak, oak wood | 橡木, 实心橡木, 橡木材质
    cast iron, enamelled iron, heavy iron | 铸铁, 珐琅铁, 厚铁
    stainless steel, brushed steel, polished steel | 不锈钢, 拉丝钢, 抛光钢
    ceramic, stoneware, glazed clay | 陶瓷, 炻器, 釉陶
    glass, clear glass, borosilicate glass | 玻璃, 透明玻璃, 高硼硅玻璃
    copper, hammered copper, tinned copper | 铜, 锤纹铜, 镀锡铜
    bamboo, pressed bamboo, natural bamboo | 竹, 压制竹, 天然竹
    linen, washed linen, flax linen | 亚麻, 水洗亚麻, 亚麻布
    nylon, ripstop nylon, light nylon | 尼龙, 防撕裂尼龙, 轻质尼龙
    merino wool, soft wool, merino | 美利奴羊毛, 柔软羊毛, 美丽诺
    titanium, ultralight titanium, titanium alloy | 钛, 超轻钛, 钛合金
    aluminium, aircraft aluminium, anodised aluminium | 铝, 航空铝, 阳极氧化铝
    waxed canvas, heavy canvas, waxed cotton | 蜡布, 厚帆布, 打蜡棉布
    down, goose down, duck down | 羽绒, 鹅绒, 鸭绒
    leather, full-grain leather, oiled leather | 皮革, 头层皮, 油皮
    recycled polyester, recycled fabric, recycled fibre | 再生聚酯, 再生面料, 再生纤维
    hardcover, cloth-bound, hardback | 精装, 布面, 硬壳
    paperback, softcover, soft-bound | 平装, 软面, 简装
    illustrated edition, richly illustrated, picture edition | 插图版, 精美插图, 图文版
    pocket edition, pocket-sized, small format | 口袋本, 便携本, 小开本
""")

ACCENTS = _words("""
    forest green, dark green, moss green | 森林绿, 墨绿, 苔绿
    navy blue, deep blue, midnight blue | 藏青, 深蓝, 午夜蓝
    ivory, cream white, off-white | 象牙白, 奶白, 米白
    charcoal grey, dark grey, slate grey | 炭灰, 深灰, 石板灰
    terracotta, brick red, burnt orange | 陶土色, 砖红, 焦橙
    mustard yellow, ochre, golden yellow | 芥末黄, 赭黄, 金黄
    sky blue, light blue, ice blue | 天蓝, 浅蓝, 冰蓝
    matt black, black, ink black | 哑光黑, 黑色, 墨黑
    Kyoto, old Kyoto, the temples of Kyoto | 京都, 古京都, 京都寺院
    the Alps, alpine valleys, Switzerland | 阿尔卑斯, 高山峡谷, 瑞士
    Paris, the streets of Paris, Montmartre | 巴黎, 巴黎街头, 蒙马特
    Iceland, the Icelandic coast, Reykjavik | 冰岛, 冰岛海岸, 雷克雅未克
    Istanbul, the Bosphorus, old Istanbul | 伊斯坦布尔, 博斯普鲁斯, 老城伊斯坦布尔
    the Andes, Peru, the Andean highlands | 安第斯, 秘鲁, 安第斯高原
    Chengdu, the teahouses of Chengdu, Sichuan | 成都, 成都茶馆, 四川
    a small island, an island village, a lonely island | 小岛, 海岛村庄, 孤岛
""")
"""The first eight are colours of goods, the others settings of books."""

LEVELS = _words("""
    simple and affordable, modest in price, made for beginners | 简单实惠, 物美价廉, 适合入门
    solid and dependable, well made for every day, sturdy | 扎实可靠, 日常耐用, 做工结实
    first-class, made for connoisseurs, award-winning | 一流, 行家之选, 获奖品质
""")

IMAGES = _words("""
    lantern | 灯笼
    river | 河流
    orchard | 果园
    letter | 信
    harbour | 港湾
    clock | 钟
    bridge | 桥
    map | 地图
    door | 门
    mirror | 镜子
    lighthouse | 灯塔
    moth | 飞蛾
    kite | 风筝
    bell | 钟声
    ember | 余烬
    compass | 罗盘
    feather | 羽毛
    well | 井
    ladder | 梯子
    shadow | 影子
    loom | 织机
    fox | 狐狸
    ferry | 渡船
    stone | 石头
""")
"""Things that book titles and series are named after; they mean nothing for taste."""

GOODS_STYLES = tuple(range(8))
BOOK_STYLES = tuple(range(8, 16))
GOODS_ACCENTS = tuple(range(8))
BOOK_ACCENTS = tuple(range(8, 16))


def index_of(words: tuple[Word, ...], key: str) -> int:
    """Return the place of a word in its list.

    Raises:
        ValueError: when there is none of that key.
    """
    return [word.key for word in words].index(key)
