//! opkg's index: `Packages`, paragraphs of `Key: value` lines.
