use std::error::Error;

/// An error and what caused it, in one line. Some libraries repeat their cause in their own words; that is said once.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (**cause).source()) {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl std::fmt::Display for Link {
        fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            to.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn every_cause_is_said_and_none_twice() {
        let refused = Link("refused", None);
        let connect = Link("connect: refused", Some(Box::new(refused)));
        let read = Link("reading the clock", Some(Box::new(connect)));
        assert_eq!(with_causes(&read), "reading the clock: connect: refused");
    }
}
