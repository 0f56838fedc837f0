//! "Did you mean": the valid name nearest to what somebody typed. Knows nothing of what the names mean.

/// The candidate that `typed` most likely stood for; `None` if none is near enough to be a help.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed_plain = plain(typed);
    let allowed = (typed_plain.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&typed_plain, &plain(candidate)),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= allowed && *distance < plain(candidate).len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The hint line for a name that is not known: the nearest one, else all of them if they are few.
pub fn hint<'a>(typed: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(name) = nearest(typed, candidates.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    if candidates.is_empty() || candidates.len() > 24 {
        return None;
    }
    Some(format!("{what}: {}", candidates.join(", ")))
}

/// Case and separators are what people get wrong most: `RPi_4` and `rpi-4` are at distance 0.
fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_nonsense_is_not() {
        let names = ["rpi4", "flint", "flint2", "slate-ax"];
        assert_eq!(nearest("filnt", names), Some("flint"));
        assert_eq!(nearest("Slate_AX", names), Some("slate-ax"));
        assert_eq!(nearest("toaster", names), None);
        assert_eq!(
            hint("toaster", "known", names).as_deref(),
            Some("known: rpi4, flint, flint2, slate-ax")
        );
    }
}
