//! A small map with linear search. The agent must be small, and a tree for each type of value costs
//! kilobytes; the tables here are short, or are searched once for each process.

#[derive(Debug, Clone)]
pub(super) struct Table<K, V>(Vec<(K, V)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq + Copy, V> Table<K, V> {
    fn position(&self, key: &K) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == key)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.position(key).is_some()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.position(key).map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.position(key).map(|at| &mut self.0[at].1)
    }

    /// Replaces the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.get_mut(&key) {
            Some(old) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = self.position(&key).unwrap_or_else(|| {
            self.0.push((key, V::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.position(key).map(|at| self.0.swap_remove(at).1)
    }

    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&K) -> bool) {
        self.0.retain(|(key, _)| wanted(key));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn take(&mut self) -> Vec<(K, V)> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_there_until_it_is_removed() {
        let mut table = Table::default();
        table.insert(3, "a");
        table.insert(4, "b");
        table.insert(3, "c");
        assert_eq!((table.get(&3), table.get(&4)), (Some(&"c"), Some(&"b")));
        assert_eq!(table.remove(&3), Some("c"));
        assert!(!table.contains_key(&3));
        assert_eq!(*table.get_or_default(5), "");
        table.retain(|key| *key == 5);
        assert_eq!(table.take(), [(5, "")]);
        assert!(table.is_empty());
    }
}
