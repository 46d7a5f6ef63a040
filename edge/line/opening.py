"""Settings → what the service opens first: the station's topics and its recipes."""

from __future__ import annotations

import dataclasses

from edge.bundle.bundle import read_manifest
from edge.delivery.opening import outbox_directory
from edge.files.masks import read_mask
from edge.files.places import default_cache_dir
from edge.inspection.options import InspectorOptions
from edge.line.first_recipe import FirstRecipe, LastRecipe
from edge.line.recipe import open_recipe
from edge.line.recipes import Recipes, Shelf
from edge.protocol.topics import StationTopics
from edge.records import Box
from edge.settings.sections import RegionSettings
from edge.settings.tree import Settings

_LAST_RECIPE = "last-recipe"


def open_recipes(settings: Settings, first: FirstRecipe, last: LastRecipe) -> Recipes:
    """The bundles that the settings name, the `first` of them ready to inspect.

    Raises:
        PatchlineError: bundle, device, region or mask are refused.
    """
    self_test, options = settings.inspection.self_test, inspector_options(settings)
    active = open_recipe(first.directory, options, self_test=self_test, name=first.name)
    others = dataclasses.replace(options, workers=len(active.inspectors))
    directories = settings.recipes or {active.name: settings.bundle}
    shelf = Shelf(
        names=frozenset(directories),
        identify=lambda name: read_manifest(directories[name]).identity,
        open=lambda name: open_recipe(directories[name], others, self_test=self_test, name=name),
    )
    return Recipes(active, shelf, settings.inspection.recipes_loaded, last.write)


def last_recipe(settings: Settings) -> LastRecipe:
    """What this station remembers of its recipe over restarts."""
    return LastRecipe(outbox_directory(settings.outbox, station_topics(settings)) / _LAST_RECIPE)


def inspector_options(settings: Settings) -> InspectorOptions:
    """The settings as the inspector takes them.

    Raises:
        SourceError: the mask cannot be read.
    """
    inspection, defects = settings.inspection, settings.defects
    return InspectorOptions(
        device=inspection.device,
        precision=inspection.precision,
        search=inspection.search,
        mode=inspection.mode,
        workers=inspection.workers,
        embed_threads=inspection.embed_threads,
        search_threads=inspection.search_threads,
        cache_dir=inspection.cache_dir or default_cache_dir(),
        region=_region(inspection.region),
        mask=None if inspection.mask is None else read_mask(inspection.mask),
        threshold=inspection.threshold,
        minimum_area=defects.minimum_area,
        max_crops=defects.max_crops,
        crop_margin=defects.crop_margin,
        crop_max_bytes=defects.crop_max_bytes,
    )


def station_topics(settings: Settings) -> StationTopics:
    """The topics of this station."""
    station = settings.station
    return StationTopics(root=station.root, site=station.site, line=station.line, name=station.name)


def _region(region: RegionSettings | None) -> Box | None:
    return None if region is None else Box(region.x, region.y, region.width, region.height)
