//! What the server says of itself: SqlInfo and the types of values.
//!
//! Everything here is checked by what the engine does: it reads and does not write, has no transactions, folds unquoted names to
//! lower case and sorts NULL as the highest value. What is not said has no answer yet.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SupportedSqlGrammar,
    XdbcDataType, XdbcDatetimeSubcode,
};
use datafusion::logical_expr::ScalarUDF;

/// The bit of `SupportedAnsi92SqlGrammarLevel` in FlightSql.proto, which arrow-flight 59 does not export.
const ANSI92_ENTRY_SQL: i32 = 0;

/// The answers to GetSqlInfo.
pub(super) fn sql_info(prepared_idle: Duration) -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, prepared_idle);
    names(&mut info);
    grammar(&mut info);
    limits(&mut info);
    info.build()
}

fn server(info: &mut SqlInfoDataBuilder, prepared_idle: Duration) {
    info.append(SqlInfo::FlightSqlServerName, "Headwater");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    info.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(prepared_idle.as_millis()).unwrap_or(i32::MAX));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlBatchUpdatesSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
}

fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // Quoted names are case sensitive, for which Flight SQL has no word.
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "$");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlSchemaTerm, "service");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
}

fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlKeywords, keywords());
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(SqlInfo::SqlSupportedGroupBy, bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32]));
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[ANSI92_ENTRY_SQL]));
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, bits(&[SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]));
    info.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    use datafusion::functions as f;
    info.append(SqlInfo::SqlNumericFunctions, function_names(&[f::math::functions()]));
    info.append(SqlInfo::SqlStringFunctions, function_names(&[f::string::functions(), f::unicode::functions()]));
    info.append(SqlInfo::SqlDatetimeFunctions, function_names(&[f::datetime::functions()]));
    info.append(SqlInfo::SqlSystemFunctions, vec!["coalesce".to_owned(), "nullif".to_owned(), "version".to_owned()]);
}

/// What has a limit; 0 says that there is none, or none that is known.
fn limits(info: &mut SqlInfoDataBuilder) {
    for code in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(code, 0_i64);
    }
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
    // Transactions there are none, so a definition neither commits one nor is passed over in one.
    info.append(SqlInfo::SqlDefaultTransactionIsolation, 0_i32);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[0]));
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    // Results are read forward, and are not written to.
    info.append(SqlInfo::SqlSupportedResultSetTypes, bits(&[FORWARD_ONLY]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, bits(&[READ_ONLY]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, bits(&[READ_ONLY]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0_i32);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0_i32);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
    let all: Vec<i32> = CONVERTED.to_vec();
    info.append(
        SqlInfo::SqlSupportsConvert,
        CONVERTED.map(|from| (from, all.clone())).into_iter().collect::<BTreeMap<_, _>>(),
    );
}

/// `SqlSupportedResultSetType` and `SqlSupportedResultSetConcurrency` of FlightSql.proto.
const FORWARD_ONLY: i32 = 1;
const READ_ONLY: i32 = 1;

/// What CAST converts into one another, by `SqlSupportsConvert` of FlightSql.proto: BIGINT, DECIMAL, FLOAT, INTEGER, NUMERIC, REAL, SMALLINT, TINYINT, VARCHAR.
const CONVERTED: [i32; 9] = [0, 5, 6, 7, 12, 13, 14, 17, 19];

/// Words that mean something to the engine's parser and that SQL:2003, as JDBC goes by it, does not reserve.
fn keywords() -> Vec<String> {
    let words = ["ANALYZE", "EXPLAIN", "ILIKE", "LIMIT", "MATERIALIZED", "OFFSET", "REFRESH", "SUBSCRIBE", "VERBOSE"];
    words.map(str::to_owned).to_vec()
}

/// A bitmask with these bits set.
fn bits(positions: &[i32]) -> i32 {
    positions.iter().fold(0, |mask, position| mask | (1 << position))
}

fn function_names(groups: &[Vec<std::sync::Arc<ScalarUDF>>]) -> Vec<String> {
    let mut names: Vec<String> = groups.iter().flatten().map(|function| function.name().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The answers to GetXdbcTypeInfo: the types that columns and CASTs have.
pub(super) fn type_info() -> Result<XdbcTypeInfoData> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    types.append(fixed("BOOLEAN", XdbcDataType::XdbcBit, 1));
    for (name, data_type, digits, unsigned) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 3, false),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5, false),
        ("INTEGER", XdbcDataType::XdbcInteger, 10, false),
        ("BIGINT", XdbcDataType::XdbcBigint, 19, false),
        ("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, 3, true),
        ("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5, true),
        ("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, 10, true),
        ("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20, true),
    ] {
        types.append(XdbcTypeInfo { unsigned_attribute: Some(unsigned), ..number(name, data_type, digits, 10) });
    }
    types.append(number("REAL", XdbcDataType::XdbcReal, 24, 2));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 53, 2));
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        ..number("DECIMAL", XdbcDataType::XdbcDecimal, 76, 10)
    });
    types.append(XdbcTypeInfo {
        case_sensitive: true,
        ..quoted("VARCHAR", XdbcDataType::XdbcVarchar, i32::MAX, "'", None)
    });
    types.append(quoted("BYTEA", XdbcDataType::XdbcVarbinary, i32::MAX, "X'", None));
    types.append(quoted("DATE", XdbcDataType::XdbcDate, 10, "DATE '", None));
    types.append(quoted("TIME", XdbcDataType::XdbcTime, 15, "TIME '", Some(XdbcDatetimeSubcode::XdbcSubcodeTime)));
    types.append(quoted(
        "TIMESTAMP",
        XdbcDataType::XdbcTimestamp,
        26,
        "TIMESTAMP '",
        Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
    ));
    types.build()
}

fn fixed(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, digits: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..fixed(name, data_type, digits)
    }
}

fn quoted(
    name: &str,
    data_type: XdbcDataType,
    size: i32,
    prefix: &str,
    datetime_subcode: Option<XdbcDatetimeSubcode>,
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        datetime_subcode,
        ..fixed(name, data_type, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_can_be_asked_for_alone() {
        let info = sql_info(Duration::from_secs(3600)).unwrap();
        let all = info.record_batch([]).unwrap();
        assert!(all.num_rows() >= 90, "{}", all.num_rows());
        assert_eq!(info.record_batch([SqlInfo::FlightSqlServerReadOnly as u32]).unwrap().num_rows(), 1);
    }

    #[test]
    fn types_are_found_by_their_code() {
        let types = type_info().unwrap();
        assert_eq!(types.record_batch(Some(XdbcDataType::XdbcBigint as i32)).unwrap().num_rows(), 2);
        assert_eq!(types.record_batch(Some(XdbcDataType::XdbcChar as i32)).unwrap().num_rows(), 0);
    }
}
