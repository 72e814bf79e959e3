"""A small synthetic kitchen: videos, their annotations and recipes of the same dishes, generated from one seed.

The next action often depends on actions several steps back: flour at the start means milk after the egg, a cut onion
means frying once the pan is hot, the first dish determines the second. An observed window of a few seconds does not
reach that far back, and the pictures are ambiguous, while the text of past actions is not. Vision alone is
therefore limited, and knowledge from text helps.
"""

import json
import random
import re
from pathlib import Path

import av
import numpy as np

from ...runs.folder import whole_file, write_text
from ..segments import AnnotationError
from .own_data import OwnData

FPS = 10
HEIGHT_PX, WIDTH_PX = 72, 96
ROWS, COLUMNS = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
OWN_FILES = re.compile(r"videos|recipes\.jsonl|kitchen_\d{3}\.mp4")
HIDDEN = (".", "_")  # partial files and locks
BLOB = ((ROWS - 48) / 16) ** 2 + ((COLUMNS - WIDTH_PX / 2) / 26) ** 2 < 1
VERBS = ("crack", "whisk", "pour", "cut", "wash", "mix", "heat", "fry", "flip", "serve")
# A color for each noun; milk and flour, egg and pancake, tomato and onion are hard to distinguish.
NOUN_COLOURS = {
    "egg": (235, 205, 90),
    "pancake": (215, 180, 95),
    "onion": (190, 80, 120),
    "tomato": (205, 60, 50),
    "milk": (235, 235, 240),
    "flour": (225, 220, 205),
    "pan": (60, 60, 75),
    "plate": (150, 190, 215),
}
DISHES = {
    "omelette": ("crack egg", "whisk egg", "heat pan", "pour egg", "serve plate"),
    "onion omelette": ("cut onion", "crack egg", "whisk egg", "heat pan", "fry onion", "pour egg", "serve plate"),
    "pancakes": (
        *("mix flour", "crack egg", "pour milk", "whisk egg", "heat pan", "pour egg"),
        *("flip pancake", "serve plate"),
    ),
    "tomato salad": ("wash tomato", "cut tomato", "cut onion", "serve plate"),
    "tomato omelette": ("wash tomato", "cut tomato", "crack egg", "whisk egg", "heat pan", "pour egg", "serve plate"),
}
# For each ten videos: few training videos, but many recipes.
SPLITS = (*2 * ("train",), *3 * ("validation",), *5 * ("test",))
# Fast random access, which dominates a student's training time: a key frame per second, no reordered frames.
ENCODING = {"g": "10", "crf": "28", "preset": "ultrafast", "tune": "fastdecode,zerolatency"}
# The dish cooked after each dish: usually the first choice, sometimes the other.
NEXT_DISH = {
    "omelette": ("tomato salad", "pancakes"),
    "onion omelette": ("pancakes", "tomato salad"),
    "pancakes": ("omelette", "tomato salad"),
    "tomato salad": ("onion omelette", "tomato omelette"),
    "tomato omelette": ("pancakes", "omelette"),
}
SENTENCES = {
    "crack egg": ("Crack the egg.", "Crack an egg into a bowl."),
    "whisk egg": ("Whisk the egg.", "Whisk the egg until smooth."),
    "pour egg": ("Pour the egg into the pan.", "Pour in the egg."),
    "cut onion": ("Cut the onion.", "Cut an onion into rings."),
    "wash tomato": ("Wash the tomato.", "Wash the tomato well."),
    "cut tomato": ("Cut the tomato.", "Cut the tomato into cubes."),
    "pour milk": ("Pour the milk into the bowl.", "Pour in the milk."),
    "mix flour": ("Mix the flour with salt.", "Mix the flour and sugar."),
    "heat pan": ("Heat the pan.", "Heat a pan over medium heat."),
    "fry onion": ("Fry the onion.", "Fry the onion until golden."),
    "flip pancake": ("Flip the pancake.", "Flip the pancake carefully."),
    "serve plate": ("Serve the plate.", "Serve the plate warm."),
}


class DemoKitchen(OwnData):
    """The demo's videos and annotations, generated in `data_dir` if they do not exist.

    Splits: `train`, `validation` and `test`, by video. Default windows match its short actions: `tau_a=0.5`, 4 frames
    at 2 frames/s.
    """

    TITLE = "A made-up kitchen"

    def __init__(self, *args, data_dir: str | Path | None = None, **kwargs):
        if data_dir is None:
            raise AnnotationError("data_dir is None: give DemoKitchen the folder to generate the demo in.")
        if not (Path(data_dir) / "segments.csv").exists():
            generate_demo(data_dir)
        defaults = {"tau_a": 0.5, "tau_o": 2.0, "num_frames": 4, "frame_rate": 2.0}
        super().__init__(*args, data_dir=data_dir, **{**defaults, **kwargs})


def generate_demo(folder: str | Path, *, num_videos: int = 60, num_recipes: int = 400, seed: int = 0):
    """Writes `videos/*.mp4`, `recipes.jsonl` and, last, `segments.csv`.

    Args:
        folder (`str` or `Path`): Folder to write to.
        num_videos (`int`, *optional*, defaults to 60): Videos of two to three dishes; of 10, 2 are for training, 3 for
            validation and 5 for testing.
        num_recipes (`int`, *optional*, defaults to 400): Recipes, `{"id", "title", "instructions"}` a line.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same files.

    Raises:
        AnnotationError: If the folder has other files than an interrupted call has written.
    """
    folder = Path(folder)
    choose = random.Random(seed)
    recipes = "".join(json.dumps(_recipe(number, choose)) + "\n" for number in range(num_recipes))
    _refuse_other_files(folder, recipes)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipes.jsonl", recipes)
    rows = ["video_id,start_s,end_s,action,verb,noun,split"]
    for number in range(num_videos):
        video_id = f"kitchen_{number:03d}"
        split = SPLITS[number % len(SPLITS)]
        segments = _cook(choose)
        _film(folder / "videos" / f"{video_id}.mp4", segments, np.random.default_rng([seed, number]))
        rows += [f"{video_id},{start},{end},{a},{a.replace(' ', ',')},{split}" for start, end, a in segments]
    write_text(folder / "segments.csv", "\n".join(rows) + "\n")


def _refuse_other_files(folder: Path, recipes: str):
    """Raises `AnnotationError` if a folder has files that would be replaced by the demo's or mixed with them."""
    path = folder / "recipes.jsonl"
    if path.exists() and path.read_bytes() != recipes.encode():
        raise AnnotationError(
            f"{path} holds other recipes than the demo's, which would replace them: give another folder as data_dir."
        )
    found = [entry for place in (folder, folder / "videos") if place.is_dir() for entry in sorted(place.iterdir())]
    visible = (entry for entry in found if not entry.name.startswith(HIDDEN))
    if (other := next((entry for entry in visible if not OWN_FILES.fullmatch(entry.name)), None)) is not None:
        raise AnnotationError(
            f"{other} does not belong to the demo, whose videos would be mixed with it: give a new folder as data_dir."
        )


def _menu(choose: random.Random, num_dishes: int) -> list[str]:
    menu = [choose.choice(list(DISHES))]
    while len(menu) < num_dishes:
        usual, rare = NEXT_DISH[menu[-1]]
        menu.append(usual if choose.random() < 0.85 else rare)
    return menu


def _recipe(number: int, choose: random.Random) -> dict:
    menu = _menu(choose, choose.choice((1, 2, 2, 3)))
    instructions = [choose.choice(SENTENCES[action]) for dish in menu for action in DISHES[dish]]
    return {"id": f"demo_{number:04d}", "title": ", then ".join(menu), "instructions": instructions}


def _cook(choose: random.Random) -> list[tuple[float, float, str]]:
    """Returns the actions of one video as (start, end, action), seconds to one decimal."""
    segments, time_s = [], 1.0
    for dish in _menu(choose, choose.choice((2, 3))):
        for action in DISHES[dish]:
            end_s = time_s + choose.randint(15, 30) / 10
            segments.append((round(time_s, 1), round(end_s, 1), action))
            time_s = end_s + choose.randint(2, 6) / 10
    return segments


def _film(path: Path, segments: list[tuple[float, float, str]], noise: np.random.Generator):
    """Encodes one video: during an action its noun's blob and, most of the time, its verb's tool."""
    counter = noise.integers(90, 150, 3) + noise.normal(0, 12, (HEIGHT_PX, WIDTH_PX, 1))
    actions = {n: action for start, end, action in segments for n in range(round(start * FPS), round(end * FPS))}
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=ENCODING)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for number in range(round((segments[-1][1] + 1) * FPS)):
            image = counter + noise.normal(0, 3)  # the light flickers
            if number in actions:
                _draw(image, actions[number], number, noise)
            frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _draw(image: np.ndarray, action: str, number: int, noise: np.random.Generator):
    verb, noun = action.split()
    image[BLOB] = np.array(NOUN_COLOURS[noun]) + noise.normal(0, 25, 3)
    if noise.random() < 0.7:  # otherwise the tool is hidden, as by a hand
        angle, sway = np.pi * VERBS.index(verb) / len(VERBS), 6 * np.sin(number * 0.9)
        x, y = COLUMNS - WIDTH_PX / 2 - sway, ROWS - 30
        across, along = x * np.sin(angle) - y * np.cos(angle), x * np.cos(angle) + y * np.sin(angle)
        image[(np.abs(across) < 3) & (np.abs(along) < 24)] = (30, 30, 30)
