"""The departments of the simulated shop: three domains, their category paths, nouns, materials and brands."""

from __future__ import annotations

from dataclasses import dataclass

from zhiyin.data.shop.words import MATERIALS, TOPICS, index_of

DOMAINS = ("books", "kitchen", "outdoor")
ID_PREFIXES = ("book", "kitchen", "outdoor")


@dataclass(frozen=True)
class Department:
    """One leaf of the category tree.

    Attributes:
        domain: Place in `DOMAINS`.
        aisle: Middle level of the category path.
        category: Lowest level of the path.
        nouns: What an item is called in English, singular.
        nouns_zh: The same in Chinese.
        topics: Topics an item here can have, places in `TOPICS`.
        materials: Materials it can be made of, places in `MATERIALS`.
        price: A usual price, in euros.
        complements: Categories of what goes with it.
    """

    domain: int
    aisle: str
    category: str
    nouns: tuple[str, ...]
    nouns_zh: tuple[str, ...]
    topics: tuple[int, ...]
    materials: tuple[int, ...]
    price: float
    complements: tuple[str, ...]

    @property
    def path(self) -> str:
        """The category path, such as ``Kitchen > Tea and coffee > Teapots``."""
        return f"{DOMAINS[self.domain].capitalize()} > {self.aisle} > {self.category}"


_ALL_TOPICS = tuple(word.key for word in TOPICS)
_BOUND = "hardcover,paperback,illustrated edition,pocket edition"

# domain; aisle; category; nouns; 名词; topics; materials; price; complements
_TABLE = f"""
0; Fiction; Novels; novel,story; 长篇小说,小说; *; {_BOUND}; 16; Short stories,Teapots
0; Fiction; Short stories; collection of stories,book of tales; 短篇集,故事集; *; {_BOUND}; 13; Novels,Cups
0; Fiction; Crime novels; thriller,detective novel; 惊悚小说,侦探小说; crime,winter,the sea,travel,art,history; {_BOUND}; 14; Coffee makers,Short stories
0; Fiction; Science fiction; science fiction novel,space opera; 科幻小说,太空歌剧; space,the stars,myths,family,crime,history; {_BOUND}; 15; Stargazing,Short stories
0; Fiction; Love stories; romance,love story; 言情小说,爱情故事; love,family,travel,the sea,music,desserts; {_BOUND}; 12; Table linen,Cups
0; Knowledge; History books; history,chronicle; 历史书,编年史; history,myths,tea,coffee,the sea,art,music,mountains; {_BOUND}; 24; Art books,Travel writing
0; Knowledge; Nature writing; nature book,field study; 自然随笔,田野笔记; mountains,the sea,forests,winter,birds,the stars,gardens,fishing; {_BOUND}; 21; Field guides,Binoculars
0; Knowledge; Art books; art book,portrait of an art; 艺术书,艺术画册; art,music,history,love,tea; {_BOUND}; 34; History books,Bowls
0; Travel; Travel writing; travelogue,account of a journey; 游记,旅途记录; travel,mountains,the sea,cycling,winter,tea,forests; {_BOUND}; 18; Backpacks,Travel guides
0; Travel; Travel guides; travel guide,companion; 旅行指南,随身指南; travel,cycling,mountains,fishing,the sea,birds; {_BOUND}; 19; Backpacks,Travel writing
0; Practice; Cookbooks; cookbook,book of recipes; 食谱,菜谱; tea,coffee,bread,grilling,noodles,fermenting,gardens,desserts; {_BOUND}; 26; Pots,Pans
0; Practice; Field guides; field guide,handbook; 野外手册,图鉴; birds,forests,the stars,fishing,gardens,mountains,fermenting; {_BOUND}; 22; Binoculars,Boots
1; Tea and coffee; Teapots; teapot,tea set; 茶壶,茶具套装; tea,travel,gardens,winter; ceramic,glass,cast iron,copper; 38; Cups,Trays
1; Tea and coffee; Cups; cup,mug; 杯子,马克杯; tea,coffee,desserts,winter; ceramic,glass,stainless steel,bamboo; 14; Teapots,Coffee makers
1; Tea and coffee; Coffee makers; coffee maker,coffee dripper; 咖啡壶,手冲滤杯; coffee,travel,desserts; glass,stainless steel,copper,ceramic; 52; Cups,Jars
1; Cookware; Pans; frying pan,skillet; 煎锅,平底锅; grilling,noodles,bread,gardens; cast iron,stainless steel,copper; 58; Pots,Knives
1; Cookware; Pots; cooking pot,casserole; 汤锅,炖锅; noodles,fermenting,gardens,bread,winter; cast iron,stainless steel,copper,ceramic; 64; Pans,Bowls
1; Cookware; Woks; wok,stir-fry pan; 炒锅,中式炒锅; noodles,grilling,gardens; cast iron,stainless steel; 49; Knives,Bowls
1; Baking; Baking tins; baking tin,loaf tin; 烤盘,吐司模; bread,desserts,family; cast iron,stainless steel,ceramic,glass; 24; Rolling pins,Jars
1; Baking; Rolling pins; rolling pin,pastry board; 擀面杖,揉面板; bread,desserts,noodles,family; oak,bamboo,stainless steel; 19; Baking tins,Table linen
1; Preparation; Knives; kitchen knife,chef's knife; 厨刀,主厨刀; grilling,noodles,gardens,bread,fishing; stainless steel,oak,copper; 72; Trays,Pans
1; Preparation; Jars; storage jar,fermentation crock; 储物罐,发酵缸; fermenting,tea,coffee,gardens,desserts; glass,ceramic,bamboo; 22; Cookbooks,Pots
1; Table; Bowls; bowl,serving bowl; 碗,大碗; noodles,gardens,desserts,tea,family; ceramic,oak,glass,bamboo; 27; Table linen,Trays
1; Table; Table linen; tablecloth,set of napkins; 桌布,餐巾; tea,desserts,family,gardens,winter; linen; 33; Bowls,Cups
1; Table; Trays; tray,serving board; 托盘,上菜板; tea,coffee,bread,grilling,desserts; oak,bamboo,copper; 29; Teapots,Cups
2; Camping; Tents; tent,trekking tent; 帐篷,徒步帐篷; mountains,forests,the sea,winter,travel,cycling; nylon,waxed canvas,recycled polyester; 240; Sleeping bags,Camp stoves
2; Camping; Sleeping bags; sleeping bag,quilt; 睡袋,睡毯; mountains,winter,forests,travel,the stars; down,nylon,recycled polyester,merino wool; 160; Tents,Base layers
2; Camping; Camp stoves; camp stove,camping grill; 露营炉,便携烤炉; grilling,coffee,mountains,fishing,travel; titanium,aluminium,stainless steel,cast iron; 85; Cups,Tents
2; Camping; Stargazing; star-chart lamp,folding stargazing chair; 星图灯,观星折叠椅; the stars,forests,mountains,the sea; aluminium,waxed canvas,recycled polyester; 70; Sleeping bags,Binoculars
2; On foot; Backpacks; backpack,rucksack; 背包,双肩包; travel,mountains,forests,birds,winter,cycling; nylon,waxed canvas,recycled polyester,leather; 120; Boots,Bottles
2; On foot; Boots; pair of boots,pair of hiking shoes; 靴子,徒步鞋; mountains,forests,winter,travel,fishing,birds; leather,nylon,recycled polyester; 150; Backpacks,Base layers
2; On foot; Bottles; drinking bottle,vacuum flask; 水壶,保温瓶; tea,coffee,mountains,cycling,travel,winter; titanium,aluminium,stainless steel,glass; 34; Backpacks,Bike bags
2; Clothing; Jackets; jacket,anorak; 外套,冲锋衣; winter,mountains,the sea,cycling,forests,fishing; nylon,waxed canvas,down,recycled polyester; 190; Base layers,Boots
2; Clothing; Base layers; base layer,long-sleeved shirt; 打底衫,长袖衫; winter,mountains,cycling,travel; merino wool,recycled polyester,linen; 68; Jackets,Boots
2; Hobby; Bike bags; bike bag,handlebar bag; 车包,车把包; cycling,travel,coffee,forests; nylon,waxed canvas,leather,recycled polyester; 75; Bottles,Travel guides
2; Hobby; Binoculars; pair of binoculars,spotting scope; 双筒望远镜,单筒望远镜; birds,the stars,the sea,mountains,forests; aluminium,leather,titanium; 210; Field guides,Jackets
2; Hobby; Fishing gear; fishing rod,tackle box; 钓竿,渔具箱; fishing,the sea,forests,travel; aluminium,titanium,bamboo,oak; 95; Jackets,Field guides
"""  # noqa: E501


def _department(line: str) -> Department:
    fields = [field.strip() for field in line.split(";")]
    domain, aisle, category, nouns, nouns_zh, topics, materials, price, complements = fields
    topic_keys = _ALL_TOPICS if topics == "*" else tuple(topics.split(","))
    return Department(
        domain=int(domain),
        aisle=aisle,
        category=category,
        nouns=tuple(nouns.split(",")),
        nouns_zh=tuple(nouns_zh.split(",")),
        topics=tuple(index_of(TOPICS, key) for key in topic_keys),
        materials=tuple(index_of(MATERIALS, key) for key in materials.split(",")),
        price=float(price),
        complements=tuple(complements.split(",")),
    )


DEPARTMENTS = tuple(_department(line) for line in _TABLE.strip().splitlines())

_BRANDS = """
Lantern Press|灯笼出版; Blue Heron Books|蓝鹭书局; Northgate|北门书社; Paper Boat|纸船文库; Third Floor|三楼出版; Salt and Ink|盐墨书坊; Orchard House|果园书屋; Milestone|里程碑社; Open Window|开窗出版; Grey Cat|灰猫文化; Seven Bridges|七桥书馆; Harbour Light|港灯书店
Hearthly|暖灶; Kupfer und Korn|铜谷; Casa Verano|夏宅; Tansu|箪笥; Fjordkitchen|峡湾厨; Old Mill|老磨坊; Plain Goods|素物; Stovehouse|炉屋; Lindenhof|菩提院; Mizu|水器; Ember Works|余烬工坊; Daily Table|日日桌
Northpeak|北峰; Fjell|山野; Wayfarer|行路人; Tern|燕鸥; Ridgeline|山脊线; Kestrel|红隼; Basecamp Nine|九号营地; Driftwood|浮木; Longday|长日; Stillwater|静水; Summit and Co|顶峰社; Rainline|雨线
"""  # noqa: E501
BRANDS = tuple(
    tuple((pair.split("|")[0].strip(), pair.split("|")[1].strip()) for pair in line.split(";"))
    for line in _BRANDS.strip().splitlines()
)
"""For each domain twelve pairs of an English and a Chinese name."""

BRANDS_PER_DOMAIN = len(BRANDS[0])
AISLES = tuple(dict.fromkeys((department.domain, department.aisle) for department in DEPARTMENTS))


def complement_departments(place: int) -> list[int]:
    """Return the places in `DEPARTMENTS` of what goes with one department."""
    categories = [department.category for department in DEPARTMENTS]
    return [categories.index(category) for category in DEPARTMENTS[place].complements]
