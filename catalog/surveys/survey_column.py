"""One column of a survey file: its published names, its type, how it is computed, what counts as nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from msacat.catalog.surveys.units_and_ucds import check_ucd, check_unit

ColumnType = Literal[
    "bigint", "integer", "smallint", "double precision", "real", "boolean", "text", "real[55]", "real[343]"
]
#: Every way a stored column may be computed from published ones; implemented in catalog/ingest/clean_values.py.
Transform = Literal[
    "mjd_to_jyear",  # (mjd) -> Julian year
    "jd_to_jyear",  # (jd) -> Julian year
    "mag_from_flux",  # (flux) -> zero_point - 2.5 log10 flux; NULL for flux <= 0
    "mag_error_from_flux",  # (flux, flux_error) -> 1.0857 flux_error / flux, in quadrature with floor_mag
    "gaia_id_from_text",  # ("Gaia DR3 123" or "123") -> 123; another release is refused
    "xp_from_samples",  # (flux[343], flux_error[343]) -> coefficients of `part`
    "xp_error_from_samples",  # (flux[343], flux_error[343]) -> coefficient errors of `part`
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,50}$")]


def _beyond_floats(number: int) -> int:
    """Refuses an integer that a float spells, so that it is taken as that float: the fingerprints in stores are of floats.

    Spelled, not only equal: PostgreSQL keeps the float 2^62, in JSON 4.611686018427388e+18, as 4611686018427388000.
    """
    if number in (float(number), int(Decimal(repr(float(number))))):
        raise ValueError("a float says the same")
    return number


#: an integer of 64 bits that a float would round
LongInteger = Annotated[int, Field(ge=-(2**63), lt=2**63), AfterValidator(_beyond_floats)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Computed(Strict):
    """How a stored column is computed from published columns (names as in the file)."""

    transform: Transform
    #: one entry an input; a list in place of a name: other publishers' names for it, the first found is read
    columns: list[str | Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    zero_point: float | None = None
    floor_mag: float = 0.0
    part: Literal["bp", "rp"] | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Computed:
        need = {"mag_from_flux": 1, "mjd_to_jyear": 1, "jd_to_jyear": 1, "gaia_id_from_text": 1}
        if len(self.columns) != need.get(self.transform, 2):
            raise ValueError(
                f"{self.transform} takes {need.get(self.transform, 2)} columns, not {self.columns}"
            )
        if self.transform == "mag_from_flux" and self.zero_point is None:
            raise ValueError("mag_from_flux needs zero_point, the magnitude of flux 1 in the published unit")
        if self.transform.startswith("xp_") and self.part is None:
            raise ValueError(f"{self.transform} needs part = 'bp' or 'rp'")
        return self

    @property
    def inputs(self) -> list[list[str]]:
        """The names each input may have, in order of preference."""
        return [[names] if isinstance(names, str) else names for names in self.columns]


class Column(Strict):
    """One stored column: published name(s) -> ours."""

    name: Name
    type: ColumnType
    description: str = Field(min_length=8)
    published: list[str] = []  # accepted published names, matched without case; [] where `computed` is given
    computed: Computed | None = None
    unit: str = ""  # of the stored value; "" = dimensionless or not a quantity
    published_unit: str | None = None  # where the file's unit differs; the value is converted
    ucd: str = ""
    required: bool = False  # a file without this column is refused
    sentinels: list[LongInteger | float | str] = []  # published values that mean "not measured"
    range: tuple[float, float] | None = None  # inclusive, of the stored value; outside -> NULL, counted
    unverified: bool = False  # the published name was not checked on a real file or data-model page
    source: str = ""  # where an (un)verified name comes from

    @property
    def length(self) -> int:
        """Elements of an array's value; 0 where it is a single one."""
        return int(self.type.partition("[")[2].rstrip("]") or 0)

    @property
    def sql_type(self) -> str:
        """The type in the table: an array's length is held by a CHECK, not by its type."""
        return self.type.split("[")[0] + "[]" * (self.length > 0)

    @field_validator("unit")
    @classmethod
    def _unit_parses(cls, unit: str) -> str:
        return check_unit(unit)

    @field_validator("published_unit")
    @classmethod
    def _published_unit_parses(cls, unit: str | None) -> str | None:
        return unit if unit is None else check_unit(unit)

    @field_validator("ucd")
    @classmethod
    def _ucd_is_known(cls, ucd: str) -> str:
        return check_ucd(ucd)

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Column:
        if bool(self.published) == (self.computed is not None):
            raise ValueError(
                f"column {self.name}: give either published names or computed, not both or neither"
            )
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(f"column {self.name}: range {self.range} is empty")
        return self
