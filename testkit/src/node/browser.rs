//! Headless Chromium with a fresh profile.

use serde::Deserialize;
use serde_json::{Value, json};

use super::script::{Script, needed};

/// A browser with one page. It reaches loopback addresses alone, and is closed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    script: Script,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Value(Value),
    Error(String),
}

impl Browser {
    /// Starts the browser at `TEST_CHROMIUM`.
    ///
    /// # Panics
    /// When there is no Node.js or no browser; when anything that follows does not work, that method panics.
    #[must_use]
    pub fn start() -> Self {
        Self { script: Script::start("browser.mjs", &needed("TEST_CHROMIUM").to_string_lossy()) }
    }

    /// Goes to an address; the status of the page it ends at.
    pub async fn open(&mut self, url: &str) -> u64 {
        self.tell(&json!({"do": "open", "url": url})).await.as_u64().unwrap_or_default()
    }

    /// Types into the field that the selector names.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        self.tell(&json!({"do": "fill", "at": selector, "text": text})).await;
    }

    /// Clicks the element that the selector names.
    pub async fn click(&mut self, selector: &str) {
        self.tell(&json!({"do": "click", "at": selector})).await;
    }

    /// Waits for the element; its text.
    pub async fn read(&mut self, selector: &str) -> String {
        text(self.tell(&json!({"do": "read", "at": selector})).await)
    }

    /// Where the browser is.
    pub async fn address(&mut self) -> String {
        text(self.tell(&json!({"do": "address"})).await)
    }

    /// The cookies of the page that scripts can see.
    pub async fn cookies_for_scripts(&mut self) -> String {
        text(self.tell(&json!({"do": "cookies"})).await)
    }

    async fn tell(&mut self, command: &Value) -> Value {
        self.script.tell(command).await;
        match self.script.hear().await {
            Answer::Value(value) => value,
            Answer::Error(error) => panic!("the browser did not do {command}: {error}"),
        }
    }
}

fn text(value: Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_else(|| panic!("the browser did not answer with a text"))
}
