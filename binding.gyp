# npm runs node-gyp where it finds this file. The one target hands over to the CMake build in native/.
{
  'targets': [
    {
      'target_name': 'tenon',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cmake',
          'message': 'Building tenon.node with CMake',
          'inputs': ['native/CMakeLists.txt'],
          'outputs': ['build/Release/tenon.node'],
          'action': ['node', 'scripts/native.mjs', 'build'],
        },
      ],
    },
  ],
}
