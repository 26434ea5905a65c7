"""Decide whether a statement may be sent on its own, or needs a transaction around it.

Pure is what reads, locks nothing and calls nothing that could write. When in doubt a statement is not pure: that
costs a BEGIN, while the opposite mistake would lose a write on rollback.
"""

import re
from collections.abc import Callable
from typing import Final

from sqlalchemy import CompoundSelect, Select, SelectBase, Sequence, TextClause
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement, ColumnClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.lambdas import LambdaElement
from sqlalchemy.sql.selectable import Exists, ScalarSelect, SelectStatementGrouping, Values
from sqlalchemy.sql.visitors import iterate

from aiosession import core

_AGGREGATE_GROUPS: Final = (
    "count sum avg min max total group_concat string_agg array_agg aggregate_strings bool_and bool_or every bit_and",
    "bit_or bit_xor json_agg jsonb_agg json_object_agg jsonb_object_agg json_agg_strict jsonb_agg_strict",
    "json_group_array json_group_object jsonb_group_array jsonb_group_object xmlagg range_agg",
    "range_intersect_agg any_value stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp",
    "regr_avgx regr_avgy regr_count",
    "regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy mode percentile_cont percentile_disc median",
)
_FUNCTION_GROUPS: Final = (
    *_AGGREGATE_GROUPS,
    "grouping grouping_sets cube rollup any_ all_ some any all",
    # window functions
    "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value",
    # conditions and conversion
    "coalesce nullif ifnull iif greatest least cast typeof quote num_nonnulls num_nulls to_char to_number to_date",
    "to_timestamp to_hex to_ascii pg_typeof format printf",
    # strings
    "lower upper initcap length char_length character_length octet_length bit_length substr substring trim ltrim rtrim",
    "btrim lpad rpad left right replace reverse repeat concat concat_ws position strpos instr split_part translate",
    "overlay chr ascii char unicode unistr md5 sha224 sha256 sha384 sha512 encode decode hex unhex quote_ident",
    "quote_literal quote_nullable starts_with regexp_count regexp_instr regexp_like regexp_match regexp_matches",
    "regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr string_to_array string_to_table",
    "array_to_string normalize is_normalized parse_ident glob like soundex unaccent similarity word_similarity",
    "strict_word_similarity show_trgm levenshtein metaphone dmetaphone convert_from convert_to get_byte set_byte",
    # numbers
    "abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log10 log2 power pow mod div gcd lcm factorial pi",
    "degrees radians sin cos tan cot asin acos atan atan2 sinh cosh tanh asinh acosh atanh width_bucket scale",
    "min_scale trim_scale random erf erfc",
    # dates; what they return stays the same within one statement
    "now current_date current_time current_timestamp localtime localtimestamp sysdate clock_timestamp",
    "statement_timestamp transaction_timestamp timeofday date time datetime julianday unixepoch strftime timediff age",
    "date_part date_trunc date_bin date_add date_subtract extract isfinite justify_days justify_hours justify_interval",
    "make_date make_interval make_time make_timestamp make_timestamptz timezone",
    # JSON
    "json jsonb json_array json_object json_extract jsonb_extract json_type json_valid json_quote json_array_length",
    "jsonb_array_length json_each json_tree jsonb_each json_each_text jsonb_each_text json_object_keys",
    "jsonb_object_keys json_array_elements jsonb_array_elements json_array_elements_text jsonb_array_elements_text",
    "json_typeof jsonb_typeof json_build_array jsonb_build_array json_build_object jsonb_build_object to_json to_jsonb",
    "row_to_json array_to_json json_strip_nulls jsonb_strip_nulls jsonb_set jsonb_set_lax jsonb_insert jsonb_pretty",
    "json_set json_insert json_replace json_remove json_patch json_error_position json_extract_path",
    "jsonb_extract_path json_extract_path_text jsonb_extract_path_text json_to_record jsonb_to_record",
    "json_to_recordset jsonb_to_recordset json_populate_record jsonb_populate_record json_populate_recordset",
    "jsonb_populate_recordset jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array",
    "jsonb_path_query_first json_pretty jsonb_delete_path jsonb_concat jsonb_contains json_exists json_value",
    "json_query",
    # arrays, ranges, sets of rows
    "array unnest generate_series generate_subscripts cardinality array_length array_ndims array_dims array_lower",
    "array_upper array_append array_prepend array_cat array_remove array_replace array_position array_positions",
    "array_fill array_sample array_shuffle array_sort array_reverse trim_array isempty lower_inc upper_inc lower_inf",
    "upper_inf range_merge multirange int4range int8range numrange tsrange tstzrange daterange int4multirange",
    "int8multirange nummultirange tsmultirange tstzmultirange datemultirange row tuple values hstore akeys avals skeys",
    "svals each exist defined",
    # full text, network, UUIDs, enums, geometry
    "to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline",
    "ts_lexize setweight strip numnode querytree tsvector_to_array array_to_tsvector get_current_ts_config bm25",
    "highlight snippet host hostmask netmask network masklen family broadcast abbrev inet_merge inet_same_family",
    "set_masklen gen_random_uuid uuid_generate_v4 uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version",
    "randomblob zeroblob enum_first enum_last enum_range area center diameter height width radius point box circle",
    "polygon path lseg line npoints bit_count get_bit set_bit",
    # the server and its catalogue
    "current_user session_user user current_role current_schema current_schemas current_database current_catalog",
    "version current_setting to_regclass to_regtype to_regproc obj_description col_description format_type",
    "pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_viewdef pg_table_is_visible pg_type_is_visible",
    "pg_relation_size pg_total_relation_size pg_table_size pg_database_size pg_size_pretty",
    "has_table_privilege has_schema_privilege has_database_privilege sqlite_version",
    "pragma_table_info pragma_table_xinfo pragma_index_list pragma_foreign_key_list",
)

#: Functions that read and compute, and nothing else. ``nextval``, ``setval``, ``pg_advisory_lock``, ``set_config``,
#: ``lo_*``, ``dblink*`` and whatever else is not named here may do more.
PURE_FUNCTIONS: Final = frozenset(name for group in _FUNCTION_GROUPS for name in group.split())

AGGREGATE_FUNCTIONS: Final = frozenset(name for group in _AGGREGATE_GROUPS for name in group.split())
"""Those of them that make one value of many rows."""

_SELECTS: Final = (Select, CompoundSelect, SelectStatementGrouping, ScalarSelect, Exists, Values, FunctionElement)
_HARMLESS_TEXT: Final = re.compile(r"""\s*(?:\*|[\w.]+|"[^"]*"|'[^']*'|[-+]?\d+(?:\.\d+)?)\s*""")
_READING_WORDS: Final = ("SELECT", "VALUES", "EXPLAIN", "SHOW", "PRAGMA")
_KNOWN_PACKAGES: Final = ("sqlalchemy.", "aiosession.")


def is_pure(statement: ClauseElement) -> bool:
    """Tell whether *statement* only reads, so that it needs no BEGIN at READ COMMITTED."""
    if not isinstance(statement, _SELECTS):
        return False
    return all(_is_harmless(element) for element in iterate(statement))


def may_write(statement: object) -> bool:
    """Guess whether a transaction that begins with *statement* is going to write."""
    if isinstance(statement, TextClause):
        return not str(statement.text).lstrip().upper().startswith(_READING_WORDS)
    return statement is not None and not isinstance(statement, SelectBase)


def may_change(statement: object) -> bool:
    """Guess whether something has changed by *statement*, which is not pure: a function in a SELECT may do that."""
    return may_write(statement) or isinstance(statement, SelectBase)


def _is_harmless(element: object) -> bool:
    """Tell whether one element of a SELECT, looked at alone, can only read."""
    if not type(element).__module__.startswith(_KNOWN_PACKAGES):
        return False
    for kind, judge in _JUDGES:
        if isinstance(element, kind):
            return judge(element)
    return True


def _locks_nothing(element: object) -> bool:
    return core.for_update(element) is None


def _is_pure_function(element: object) -> bool:
    name = getattr(element, "name", None)
    return isinstance(name, str) and name.lower() in PURE_FUNCTIONS and not getattr(element, "packagenames", ())


def is_plain_text(text: str) -> bool:
    """Tell whether SQL given as text is a name or a literal, and calls nothing."""
    return _HARMLESS_TEXT.fullmatch(text) is not None


def _is_harmless_text(element: object) -> bool:
    return is_plain_text(getattr(element, "text", ""))


def _is_harmless_column(element: object) -> bool:
    if not getattr(element, "is_literal", False):
        return True
    return is_plain_text(str(getattr(element, "name", "")))


def _never(_element: object) -> bool:
    return False


_JUDGES: Final[tuple[tuple[type, Callable[[object], bool]], ...]] = (
    (FunctionElement, _is_pure_function),
    (ColumnClause, _is_harmless_column),
    (TextClause, _is_harmless_text),
    (UpdateBase, _never),
    (Sequence, _never),
    (LambdaElement, _never),
    (Select, _locks_nothing),
    (CompoundSelect, _locks_nothing),
)
