//! What a scope holds: the list of its stats, and typed handles into it.
//!
//! The [`schema!`](crate::schema) macro turns a list of Envoy's names into constants (`UPSTREAM_CX_TOTAL: CounterId`)
//! and one `SCHEMA`. A handle is an index that is fixed at compile time, so a writer never looks a name up, and a
//! counter cannot be used as a gauge.

/// The unit of a histogram's values; only told, never converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Unspecified,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
}

/// The kind of a stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram(Unit),
}

/// One stat of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Envoy's name below the scope's prefix; may contain dots.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
}

/// A counter's place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterId(pub(crate) u16);

/// A gauge's place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaugeId(pub(crate) u16);

/// A histogram's place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramId(pub(crate) u16);

/// The stats of one kind of scope.
#[derive(Debug)]
pub struct Schema {
    pub(crate) stats: &'static [Stat],
    pub(crate) scalars: usize,
    pub(crate) histograms: usize,
}

impl Schema {
    /// Made by the [`schema!`](crate::schema) macro.
    pub const fn new(stats: &'static [Stat]) -> Self {
        let scalars = rank(stats, stats.len(), false);
        Self {
            stats,
            scalars,
            histograms: stats.len() - scalars,
        }
    }

    /// The stats in the order of their declaration.
    pub fn stats(&self) -> &'static [Stat] {
        self.stats
    }

    /// Each stat with its place among the scalars or among the histograms.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (Stat, usize)> {
        let (mut scalars, mut histograms) = (0, 0);
        self.stats.iter().map(move |stat| {
            let next = if matches!(stat.kind, Kind::Histogram(_)) {
                &mut histograms
            } else {
                &mut scalars
            };
            *next += 1;
            (*stat, *next - 1)
        })
    }
}

impl CounterId {
    #[doc(hidden)]
    pub const fn at(stats: &[Stat], position: usize) -> Self {
        assert!(matches!(stats[position].kind, Kind::Counter));
        Self(rank(stats, position, false) as u16)
    }
}

impl GaugeId {
    #[doc(hidden)]
    pub const fn at(stats: &[Stat], position: usize) -> Self {
        assert!(matches!(stats[position].kind, Kind::Gauge));
        Self(rank(stats, position, false) as u16)
    }
}

impl HistogramId {
    #[doc(hidden)]
    pub const fn at(stats: &[Stat], position: usize) -> Self {
        assert!(matches!(stats[position].kind, Kind::Histogram(_)));
        Self(rank(stats, position, true) as u16)
    }
}

/// How many histograms, or how many counters and gauges, come before a position.
const fn rank(stats: &[Stat], position: usize, histograms: bool) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < position {
        if matches!(stats[at].kind, Kind::Histogram(_)) == histograms {
            count += 1;
        }
        at += 1;
    }
    count
}

/// Declares modules of stats.
///
/// ```
/// redplane_telemetry::schema! {
///     /// A pool.
///     pub mod pool {
///         upstream_cx_total: Counter,
///         upstream_cx_active: Gauge,
///         "upstream_commands.upstream_rq_time" as upstream_rq_time: Histogram(Microseconds),
///     }
/// }
/// let scope = redplane_telemetry::Registry::new().scope("cluster.a.", &pool::SCHEMA);
/// scope.block().inc(pool::UPSTREAM_CX_TOTAL);
/// assert_eq!(scope.counter(pool::UPSTREAM_CX_TOTAL), 1);
/// ```
#[macro_export]
macro_rules! schema {
    ($( $(#[$doc:meta])* $visibility:vis mod $module:ident {
        $( $($text:literal as)? $name:ident : $kind:ident $( ( $unit:ident ) )? ),* $(,)?
    } )*) => { $(
        $(#[$doc])*
        #[allow(unreachable_pub)]
        $visibility mod $module {
            #[allow(non_camel_case_types, clippy::enum_variant_names)]
            enum Position { $( $name ),* }

            const STATS: &[$crate::Stat] = &[$(
                $crate::Stat {
                    name: $crate::schema!(@name $($text)? $name),
                    kind: $crate::Kind::$kind $( ($crate::Unit::$unit) )?,
                },
            )*];

            /// All stats of this kind of scope.
            pub static SCHEMA: $crate::Schema = $crate::Schema::new(STATS);

            $crate::pastey::paste! { $(
                #[doc = concat!("`", $crate::schema!(@name $($text)? $name), "`")]
                pub const [<$name:upper>]: $crate::[<$kind Id>] =
                    $crate::[<$kind Id>]::at(STATS, Position::$name as usize);
            )* }
        }
    )* };
    (@name $text:literal $name:ident) => { $text };
    (@name $name:ident) => { stringify!($name) };
}
