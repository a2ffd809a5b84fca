"""From a settings file of the Node server of Drupal's nodejs module to a configuration. No IO."""

from twisted_push.nodejsconfig.convert import Imported, import_settings

__all__ = ["Imported", "import_settings"]
