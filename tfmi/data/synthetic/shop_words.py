"""The words of the embedded shop: what it sells, by category and by style, and who makes it. The brands are made up."""

from __future__ import annotations

from typing import NamedTuple


class Department(NamedTuple):
    """One category of the shop.

    Attributes:
        brands: Makers of this category's items; some make things of two categories.
        adjectives: What an item of this category can be.
        styles: By name, the things of each style. A style is one true interest: some categories have a single one, most have several.
    """

    brands: tuple[str, ...]
    adjectives: tuple[str, ...]
    styles: dict[str, tuple[str, ...]]


DEPARTMENTS: dict[str, Department] = {
    "Outdoor": Department(
        ("Nordlys", "Fjellvik", "Tarnrock", "Larchwood", "Skarven", "Ravenscree"),
        ("insulated", "lightweight", "waterproof", "recycled", "four-season", "compact", "windproof", "trail-worn"),
        {
            "hiking": ("hiking boots", "trekking poles", "day pack", "rain jacket", "wool socks", "map case"),
            "climbing": ("climbing shoes", "chalk bag", "harness", "quickdraw set", "bouldering pad", "belay gloves"),
            "camping": ("two-person tent", "sleeping bag", "camping stove", "hammock", "head torch", "water filter"),
            "fishing": ("fly rod", "landing net", "wading boots", "tackle box", "reel", "fishing vest"),
        },
    ),
    "Kitchen": Department(
        ("Brasa", "Coppermoor", "Hearth & Rye", "Kirino", "Olive Lane", "Saltmarsh"),
        ("cast-iron", "brushed-steel", "hand-finished", "copper", "stackable", "everyday", "professional", "enamelled"),
        {
            "baking": ("loaf tin", "proofing basket", "rolling pin", "cake ring", "dough scraper", "baking stone"),
            "coffee": ("coffee grinder", "pour-over kettle", "espresso cups", "milk jug", "coffee scale", "French press"),
            "grilling": ("charcoal grill", "tongs", "smoking chips", "meat thermometer", "grill basket", "pizza peel"),
            "knives": ("chef's knife", "paring knife", "whetstone", "knife block", "santoku", "chopping board"),
        },
    ),
    "Music": Department(
        ("Aldermoor", "Blue Heron", "Cadenza", "Quillon", "Resonaut", "Tonewell"),
        ("vintage", "handmade", "limited-edition", "walnut", "portable", "compact", "matte-black", "reissued"),
        {
            "guitar": ("steel-string guitar", "tube amplifier", "guitar strap", "capo", "overdrive pedal", "gig bag"),
            "home studio": ("condenser microphone", "audio interface", "studio monitors", "pop filter", "MIDI keyboard", "patch bay"),
            "vinyl": ("turntable", "record crate", "phono preamp", "record brush", "bookshelf speakers", "slipmat"),
        },
    ),
    "Home": Department(
        ("Birkholm", "Casa Lumen", "Hearth & Rye", "Linden & Loom", "Mossfield", "Paperwhite"),
        ("natural", "sage-green", "hand-finished", "smoky-grey", "minimalist", "classic", "art-deco", "ochre"),
        {
            "lighting": ("floor lamp", "pendant light", "bedside lamp", "string lights", "reading lamp", "candle lantern"),
            "textiles": ("throw blanket", "cushion cover", "wool rug", "bed linen", "curtain pair", "bath towel"),
            "storage": ("wall shelf", "storage basket", "coat rack", "shoe bench", "drawer organiser", "bookcase"),
        },
    ),
    "Sport": Department(
        ("Kestrel Athletics", "Momentide", "Nordlys", "Paceline", "Stride & Co", "Vantero"),
        ("featherlight", "reflective", "race-day", "everyday", "non-slip", "all-weather", "compact", "recycled"),
        {
            "running": ("running shoes", "hydration vest", "sports watch", "running shorts", "foam roller", "race belt"),
            "cycling": ("cycling jersey", "bike helmet", "saddle bag", "pedal set", "bike pump", "bib shorts"),
            "yoga": ("yoga mat", "cork block", "meditation cushion", "leggings", "resistance band", "yoga strap"),
            "swimming": ("swim goggles", "swim fins", "swim cap", "kickboard", "tow float", "swim parka"),
        },
    ),
    "Books": Department(
        ("Grey Harbour Press", "Lantern House", "Marginalia", "Northlight Editions", "Salt & Ink", "Two Rivers"),
        ("illustrated", "prize-winning", "pocket", "classic", "annotated", "hardback", "translated", "bestselling"),
        {
            "crime": ("island mystery", "police procedural", "locked-room puzzle", "spy thriller", "noir novel", "courtroom drama"),
            "science fiction": ("space opera", "first-contact novel", "time-loop story", "starship saga", "robot tales", "alien atlas"),
            "history": ("history of the sea", "city chronicle", "explorer's diary", "history of bread", "royal letters", "map collection"),
            "cookery": ("vegetarian cookbook", "bread book", "noodle cookbook", "pickling guide", "pastry course", "spice handbook"),
        },
    ),
    "Electronics": Department(
        ("Auralis", "Helioptic", "Kirino", "Lumen Works", "Pixelmoor", "Voltaine"),
        ("wireless", "compact", "matte-black", "pocket-sized", "solar", "ultra-slim", "fast-charging", "smart"),
        {
            "photography": ("camera body", "prime lens", "tripod", "camera strap", "flash unit", "lens filter set"),
            "audio": ("headphones", "earbuds", "portable speaker", "soundbar", "digital radio", "audio cable"),
            "smart home": ("doorbell camera", "thermostat", "light switch", "motion sensor", "robot vacuum", "air monitor"),
        },
    ),
    "Garden": Department(
        ("Fernhill", "Greenfinch", "Larchwood", "Mossfield", "Rootstock", "Thistledown"),
        ("heritage", "cedar", "galvanised", "hardy", "moss-green", "lightweight", "frost-proof", "handmade"),
        {"gardening": ("seed set", "pruning shears", "raised bed", "watering can", "potting bench", "garden fork")},
    ),
    "Toys": Department(
        ("Bumblebee Toys", "Kindling", "Merrywood", "Puzzlewright", "Tin Rocket", "Windmill Lane"),
        ("wooden", "magnetic", "glow-in-the-dark", "pocket", "colourful", "giant", "award-winning", "collector's"),
        {
            "board games": ("strategy game", "card game", "quiz game", "dice set", "tile-laying game", "dungeon crawler"),
            "model trains": ("steam locomotive", "freight wagon", "track set", "signal box", "station kit", "turntable bridge"),
            "building blocks": ("castle set", "marble run", "block crate", "vehicle set", "dinosaur set", "moon base"),
        },
    ),
    "Beauty": Department(
        ("Alba Botanica", "Dewfall", "Maison Verre", "Olive Lane", "Petrichor", "Silk & Sage"),
        ("botanical", "rose", "citrus", "sea-salt", "refillable", "mineral", "gentle", "travel-size"),
        {
            "skin care": ("face cream", "cleansing balm", "serum", "clay mask", "sunscreen", "toner"),
            "hair care": ("shampoo bar", "conditioner", "hair oil", "styling cream", "curl brush", "scalp scrub"),
            "fragrance": ("eau de parfum", "scented candle", "cologne", "room spray", "perfume oil", "incense set"),
        },
    ),
    "Pets": Department(
        ("Barkley & Finch", "Furrow", "Pawprint", "Tailwind", "Whiskerton", "Wildacre"),
        ("handmade", "sturdy", "soft", "cosy", "washable", "playful", "adjustable", "natural"),
        {
            "dogs": ("dog lead", "dog bed", "training set", "rope toy", "dog coat", "travel bowl"),
            "cats": ("scratching post", "cat tunnel", "feather wand", "cat tree", "litter mat", "cat fountain"),
        },
    ),
    "Stationery": Department(
        ("Grey Harbour Press", "Inkwright", "Kirino", "Paperwhite", "Quill & Crane", "Studio Fold"),
        ("pocket", "hand-finished", "archival", "pastel", "refillable", "ivory", "midnight-blue", "left-handed"),
        {"stationery": ("notebook", "fountain pen", "brush pen set", "desk planner", "wax seal kit", "sketchbook")},
    ),
}

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
REGIONS = ("north", "east", "south", "west", "capital", "islands", "abroad")
PRICE_LEVELS = ("budget", "mid-range", "premium")
