//! What the API counts: requests by route and status, how long they took, and how many are under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use crate::health::{self, Kind};

/// The upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What the API has counted since it started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    under_way: AtomicU64,
    routes: Mutex<BTreeMap<Route, Served>>,
}

/// One of the routes of the API: there are as many as it has, and one for all the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// A method that HTTP has, or `other`.
    pub(super) method: &'static str,
    /// The route's pattern, or `none`.
    pub(super) path: String,
}

#[derive(Debug, Default)]
struct Served {
    statuses: BTreeMap<u16, u64>,
    within: [u64; BOUNDS.len()],
    seconds: f64,
}

impl Route {
    pub(super) fn new(method: &Method, path: Option<&str>) -> Self {
        let known = [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::PATCH, Method::HEAD];
        let names = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD"];
        let name = known.iter().zip(names).find(|(known, _)| *known == method).map(|(_, name)| name);
        Self { method: name.unwrap_or("other"), path: path.unwrap_or("none").to_owned() }
    }

    fn labels(&self, more: &str) -> String {
        format!("{{method=\"{}\",route=\"{}\"{more}}}", self.method, self.path)
    }
}

/// A request that is under way, until it is dropped.
pub(super) struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    pub(super) fn ended(&self, route: &Route, status: StatusCode, took: Duration) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let served = routes.entry(route.clone()).or_default();
        *served.statuses.entry(status.as_u16()).or_default() += 1;
        served.seconds += took.as_secs_f64();
        for (count, bound) in served.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(took.as_secs_f64() <= bound);
        }
    }

    pub(super) fn write_down(&self, metrics: &mut health::Metrics) {
        let under_way = self.under_way.load(Ordering::Relaxed);
        metrics.one("api_requests_in_flight", Kind::Gauge, "Requests that are under way.", under_way);
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let by_status = routes.iter().flat_map(|(route, served)| {
            served.statuses.iter().map(|(status, count)| (route.labels(&format!(",status=\"{status}\"")), *count))
        });
        metrics.add("api_requests_total", Kind::Counter, "Requests answered, by route and status.", by_status);
        let lines: Vec<(String, String)> = routes.iter().flat_map(|(route, served)| served.histogram(route)).collect();
        metrics.add_histogram("api_request_seconds", "How long answers took.", lines);
    }
}

impl Served {
    fn histogram(&self, route: &Route) -> Vec<(String, String)> {
        let count: u64 = self.statuses.values().sum();
        let within = self.within.iter().zip(BOUNDS);
        let mut lines: Vec<(String, String)> = within
            .map(|(count, bound)| (format!("_bucket{}", route.labels(&format!(",le=\"{bound}\""))), count.to_string()))
            .collect();
        lines.push((format!("_bucket{}", route.labels(",le=\"+Inf\"")), count.to_string()));
        lines.push((format!("_sum{}", route.labels("")), self.seconds.to_string()));
        lines.push((format!("_count{}", route.labels("")), count.to_string()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_and_time() {
        let counters = Counters::default();
        let route = Route::new(&Method::GET, Some("/v1/accounts"));
        let under_way = counters.begin();
        counters.ended(&route, StatusCode::OK, Duration::from_millis(7));
        counters.ended(&route, StatusCode::NOT_FOUND, Duration::from_millis(700));
        counters.ended(&Route::new(&Method::TRACE, None), StatusCode::NOT_FOUND, Duration::ZERO);
        let mut metrics = health::Metrics::default();
        counters.write_down(&mut metrics);
        drop(under_way);
        counters.write_down(&mut metrics);
        let text = metrics.into_text();
        for line in [
            "api_requests_in_flight 1",
            "api_requests_in_flight 0",
            "api_requests_total{method=\"GET\",route=\"/v1/accounts\",status=\"200\"} 1",
            "api_requests_total{method=\"other\",route=\"none\",status=\"404\"} 1",
            "api_request_seconds_bucket{method=\"GET\",route=\"/v1/accounts\",le=\"0.005\"} 0",
            "api_request_seconds_bucket{method=\"GET\",route=\"/v1/accounts\",le=\"0.01\"} 1",
            "api_request_seconds_bucket{method=\"GET\",route=\"/v1/accounts\",le=\"+Inf\"} 2",
            "api_request_seconds_count{method=\"GET\",route=\"/v1/accounts\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
