"""Lists of words of English recipes by their role in an instruction."""


def words(text: str) -> frozenset[str]:
    """Returns the whitespace-separated words of a text as a set."""
    return frozenset(text.split())


# Lemmas that are no action: of the reference's list (teacher, recipe_json2actionseq.py), in which a missing comma joins
# "could" and "want" into one word, so that it filters neither; and, of ours, "allow" and "need".
NOT_ACTIONS = words("allow be can could get have let ll may must need see tell use want will")

# Verbs that in this form, after a comma or "and", are hardly ever anything but the next instruction.
KITCHEN_VERBS = words(
    """add adjust allow alternate arrange assemble attach bake baste beat begin blanch blend boil break bring broil
    brush carve char check chill chop clean coat combine continue cook cool cover crack crimp crumble crush cut
    decorate deep_fry deflate deglaze dice dip discard dissolve distribute divide dollop dot drain dredge drizzle
    drop dust fill finish flake flatten flip fluff fold form freeze fry garnish gather grate grease grill grind
    halve heat immerse increase insert invert keep knead ladle lay leave let lift loosen lower maintain make
    marinate mash measure melt microwave mince mix moisten mound move muddle open pack pan_fry pass pat peel pick
    pierce pipe place plunge poach poke position pound pour preheat prepare press prick proceed process pull pulse
    punch puree purée push put raise reduce refrigerate reheat release remove repeat replace reserve return rewarm
    rinse roast roll rotate rub run saute sauté scatter scoop scrape seal sear season secure select separate serve
    set shake shape shred sift simmer sit skim slice slide smear snip soak split spoon spray spread sprinkle spritz
    squeeze stack stand start steam sterilize stir stir_fry store strain stretch stuff submerge substitute swirl
    switch take tap tear tent test thread throw tie tilt toast toss transfer trim tuck turn twist uncover unmold
    unroll unwrap use wash whip whisk wipe wrap"""
)
# Verbs that are foods, forms or states as well: only at the beginning, or beside other verbs, are they taken for verbs.
NOUN_LIKE_VERBS = words(
    """brown butter core cream flour frost ice layer line oil pepper quarter salt score skin smooth stem top warm"""
)
LETTING = words("allow leave let")  # "let the dough rise"
CONTINUING = words("begin continue finish keep start stop try")  # "continue to stir the sauce"
SHARING_VERBS = KITCHEN_VERBS - LETTING - CONTINUING | NOUN_LIKE_VERBS  # "peel and slice the onions"
NEGATIONS = ("do not ", "don't ", "don\u2019t ", "never ", "avoid ")
AUXILIARIES = words("am are can could has have is may might must shall should was were will would")
# How a phrase begins that says when, where or with what to do something.
LEADING = words(
    """about above after along although among around as at because before beside between by depending during each for
    from if in inside into of off on once onto over since so through to under unless until upon using when whenever
    where while with within without working"""
)
# How a sentence begins that is no instruction.
NO_VERBS = AUXILIARIES | words(
    """a adapted all an another any available be both cannot did does every had he her how i it its makes more most my
    no not note notes one our photograph see serves she some that the their there these they this those two three we
    what which yields your"""
)
ADVERBS = words(
    """again also alternately alternatively and but finally first just meanwhile next now or please second then"""
)
# What may follow a verb without being its object, and what may do so alone: "serve hot", but "stir hot milk into ...".
NO_OBJECTS = (
    LEADING
    | NO_VERBS
    | ADVERBS
    | KITCHEN_VERBS
    | words(
        "apart aside away back covered down eight enough five forth four frozen half less often out overnight rest six"
    )
    | words("ten them twice uncovered up us well")
)
ALONE_NO_OBJECTS = words("cold dry hot thick thin warm")
PARTICLES = words("apart aside away back down off out up")
# These are prepositions beside other verbs.
PARTICLES_OF = {
    "in": words("add beat blend cut drizzle drop fold knead mix pour rub sift stir swirl toss whip whisk work"),
    "on": words("put switch turn"),
    "over": words("flip turn"),
}
# "stir in a bowl" has no particle.
VESSELS = words("batch blender bowl dish half mixer oven pan pot processor saucepan skillet third")
# Never an object; the object is what they are "of".
UNITS = words(
    """all amount bit bunch clove couple cup dash day degree drop few gallon gram half handful hour inch kilogram knob
    lb little liter litre lot min minute moment more most ounce oz pinch pint pound quart remainder rest second some
    splash sprig tablespoon tablespoonful tbs tbsp teaspoon teaspoonful third time tsp week"""
)
# An object unless they are "of" something: "a pot of water" is water.
PORTIONS = words(
    """bag batch bottle bowl box can carton container cube dollop glass head jar kettle layer loaf package packet pan
    piece pot saucepan sheet slice spoonful stalk stick strip"""
)
# Adjectives that do not name a kind: "large bowl", but "red onion".
STATES = words(
    """additional big boiling bottom clean coarse cold cool damp deep desired dry each electric enough entire equal
    even excess extra few first fresh frozen full high hot large last little long low many medium more next other
    raw remaining second several shallow sharp single small tender thick thin top warm wet whole"""
)
# Wrong lemmas by spaCy, of cookies, molasses, piping and scraping.
LEMMAS = {"cooky": "cookie", "molasse": "molasses", "pip": "pipe", "scrap": "scrape"}
